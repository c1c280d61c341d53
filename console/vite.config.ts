import { defineConfig } from "vite";

export default defineConfig({
  // Relative, so that the page may lie in a folder of its host.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // A policy of our own forbids data: addresses of scripts and fonts, so nothing is inlined.
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: "es" },
});
