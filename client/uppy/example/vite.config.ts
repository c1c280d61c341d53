import { defineConfig } from "vite";

// The local stack serves it at /examples/uppy/, under the console's content security policy: nothing is inlined.
export default defineConfig({
  base: "./",
  build: { outDir: "../build/example", emptyOutDir: true, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: "es" },
});
