import { Outlet, type RouteObject } from "react-router";
import { Failure, NotFound } from "./shell/failure";
import { Shell } from "./shell/shell";
import { ActingBanner } from "./viewer/profile/acting-banner";
import { ViewerTools } from "./viewer/profile/viewer-tools";
import { viewerRoutes } from "./viewer/routes";
import { SearchBox } from "./viewer/search/search-box";

export const routes: RouteObject[] = [
  {
    element: <Shell search={<SearchBox />} tools={<ViewerTools />} banner={<ActingBanner />} />,
    // A page that throws leaves the header and footer standing.
    children: [
      {
        element: <Outlet />,
        errorElement: <Failure />,
        hydrateFallbackElement: <></>,
        children: [
          ...viewerRoutes,
          // The console with all its pages and charts is a chunk that viewers never load.
          {
            path: "ops/*",
            lazy: async () => ({ Component: (await import("./ops/console")).Console }),
          },
          { path: "*", element: <NotFound /> },
        ],
      },
    ],
  },
];
