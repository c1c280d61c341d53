import { defineConfig } from "vitest/config";

// Nothing here is about time: what hangs is ended, what is slow is not.
export default defineConfig({ test: { include: ["test/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000 } });
