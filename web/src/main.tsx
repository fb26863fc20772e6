import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { createBrowserRouter } from "react-router";
import { App } from "./app";
import { createQueryClient } from "./client/queries";
import { loadConfig } from "./config";
import { startI18n } from "./i18n";
import { routes } from "./routes";
import "./styles/tokens.css";
import "./styles/base.css";
import { startTheme } from "./theme";

startTheme();
await loadConfig();
await startI18n();

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element #root");
createRoot(root).render(
  <StrictMode>
    <App queryClient={createQueryClient()} router={createBrowserRouter(routes)} />
  </StrictMode>,
);
