import type { components } from "../client/schema";

export type Schemas = components["schemas"];
export type Run = Schemas["RunStatus"];
export type RunState = Run["status"];
export type ModelVersion = Schemas["ModelVersion"];
export type ModelDetails = Schemas["ModelDetails"];
