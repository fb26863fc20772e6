import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { body, opsApi } from "../../client/api";
import { opsKeys } from "../keys";
import type { Schemas } from "../types";

const ALERTS_MS = 15_000;
const DRIFT_MS = 60_000;

export type Alert = Schemas["AlertBody"];
export type Alarm = Schemas["AlarmBody"];
export type Feature = Schemas["DriftFeature"];
export type Point = Schemas["DriftPoint"];

export function useAlerts() {
  return useQuery({
    queryKey: opsKeys.alerts,
    queryFn: ({ signal }) => body(opsApi().GET("/v1/alerts", { signal })),
    refetchInterval: ALERTS_MS,
    staleTime: 0,
  });
}

export function useDrift(days: number) {
  return useQuery({
    queryKey: opsKeys.drift(days),
    queryFn: ({ signal }) => body(opsApi().GET("/v1/drift", { params: { query: { days } }, signal })),
    refetchInterval: DRIFT_MS,
    staleTime: 0,
    placeholderData: keepPreviousData,
  });
}
