import type { resources } from "./locales";
import type { words } from "./ops/locales";

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "common";
    resources: (typeof resources)["en"] & { ops: (typeof words)["en"] };
  }
}
