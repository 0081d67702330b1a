// Multi-page build: the console, the studio and the player share one asset folder, which the server
// embeds and serves under /assets/. Nothing is fetched from another host at run time.
import { resolve } from "node:path";
import { defineConfig } from "vite";

/** Where `npm run dev` finds an API: the mock server, or a real `anchornet run`. */
const api = process.env.ANCHORNET_API ?? "http://127.0.0.1:8080";

const page = (name: string) => resolve(import.meta.dirname, `${name}.html`);

export default defineConfig({
  appType: "mpa",
  build: {
    outDir: "dist",
    assetsDir: "assets",
    target: "es2022",
    // A data: URL would need a wider content security policy; files do not.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rollupOptions: {
      input: { index: page("index"), studio: page("studio"), watch: page("watch") },
    },
  },
  plugins: [
    {
      name: "pages-by-path",
      // The server maps /studio/{channel} and /watch/{channel} to the pages; so does the dev server.
      configureServer(server) {
        server.middlewares.use((request, _response, next) => {
          const match = /^\/(studio|watch)\/[^/?]+\/?(?=\?|$)/.exec(request.url ?? "");
          if (match && !/\.\w+$/.test(match[0])) request.url = `/${match[1]}.html`;
          next();
        });
      },
    },
  ],
  server: {
    host: "127.0.0.1",
    proxy: Object.fromEntries(
      ["/api", "/whip", "/whep", "/live", "/healthz", "/readyz"].map((path) => [
        path,
        { target: api, ws: path === "/live" },
      ]),
    ),
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
