import type { RouteObject } from "react-router";
import { Stage } from "./home/stage";

/** Pages for viewers; what is not needed on the first visit is loaded when it is opened (`lazy`). */
export const viewerRoutes: RouteObject[] = [
  // One element for both, so that the home page stays as it is while a film lies over it.
  {
    element: <Stage />,
    children: [
      { index: true, element: null },
      { path: "films/:itemId", element: null },
    ],
  },
  {
    path: "welcome",
    lazy: async () => ({ Component: (await import("./onboarding/welcome-page")).WelcomePage }),
  },
  { path: "search", lazy: async () => ({ Component: (await import("./search/search-page")).SearchPage }) },
  {
    path: "predictor",
    lazy: async () => ({ Component: (await import("./predictor/predictor-page")).PredictorPage }),
  },
  { path: "me", lazy: async () => ({ Component: (await import("./profile/profile-page")).ProfilePage }) },
];
