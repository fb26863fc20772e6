import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const api = process.env["MARQUEE_API_URL"] ?? "http://127.0.0.1:8000";
const apiPaths = [
  "/v1",
  "/run",
  // Not the page /predictor.
  "^/predict$",
  "/available-content",
  "/latest-recommendations",
  "/health",
  "/livez",
  "/readyz",
  "/info",
  "/config.json",
  "/openapi.json",
  "/docs",
];
// The API refuses changes that pages of other origins ask for; through the proxy this page is one of its own.
const target = { target: api, changeOrigin: true, headers: { Origin: api } };
const proxy = Object.fromEntries(apiPaths.map((path) => [path, target]));

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/marquee/api/site_files",
    emptyOutDir: true,
    // The Content-Security-Policy admits files of this origin only: nothing may become a data: URI or inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            // What changes seldom has a file of its own, so that browsers keep it over releases. Chart libraries
            // are left out: they belong to the lazily loaded console.
            { name: "react", test: /node_modules[\\/](react|react-dom|scheduler|react-router)[\\/]/ },
            { name: "query", test: /node_modules[\\/](@tanstack|openapi-fetch|i18next|react-i18next)[\\/]/ },
          ],
        },
      },
    },
  },
  server: { host: "127.0.0.1", proxy },
  preview: { host: "127.0.0.1", proxy },
  test: {
    environment: "jsdom",
    // On a machine that is busy with other tests.
    testTimeout: 30_000,
    setupFiles: ["src/test/setup.ts"],
    include: ["src/**/*.test.{ts,tsx}"],
    css: { modules: { classNameStrategy: "non-scoped" } },
    restoreMocks: true,
    unstubGlobals: true,
  },
});
