import { useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect } from "react";
import { Route, Routes } from "react-router";
import { Problem } from "../client/api";
import { NotFound } from "../shell/failure";
import { Gate } from "./gate/gate";
import { opsKeys } from "./keys";
import "./locales";
import { Layout } from "./layout/layout";
import { PageSkeleton } from "./parts/page";

const Overview = lazy(async () => ({ default: (await import("./overview/overview")).Overview }));
const MonitoringPage = lazy(async () => ({
  default: (await import("./monitoring/monitoring-page")).MonitoringPage,
}));
const Runs = lazy(async () => ({ default: (await import("./runs/runs")).Runs }));
const RunPage = lazy(async () => ({ default: (await import("./runs/run-page")).RunPage }));
const DataPage = lazy(async () => ({ default: (await import("./data/data-page")).DataPage }));
const Catalogue = lazy(async () => ({ default: (await import("./catalogue/catalogue")).Catalogue }));
const Models = lazy(async () => ({ default: (await import("./models/models")).Models }));
const ModelPage = lazy(async () => ({ default: (await import("./models/model-page")).ModelPage }));
const Compare = lazy(async () => ({ default: (await import("./models/compare")).Compare }));
const Experiments = lazy(async () => ({ default: (await import("./experiments/experiments")).Experiments }));
const ExperimentPage = lazy(async () => ({
  default: (await import("./experiments/experiment-page")).ExperimentPage,
}));
const People = lazy(async () => ({ default: (await import("./people/people")).People }));
const Person = lazy(async () => ({ default: (await import("./people/person")).Person }));

/** The operators' part: a menu and its pages, each of them a chunk that is loaded when it is opened. */
export function Console() {
  useRevokedKey();
  return (
    <Gate>
      <Layout>
        <Suspense fallback={<PageSkeleton />}>
          <Routes>
            <Route index element={<Overview />} />
            <Route path="monitoring" element={<MonitoringPage />} />
            <Route path="runs" element={<Runs />} />
            <Route path="runs/:runId" element={<RunPage />} />
            <Route path="data" element={<DataPage />} />
            <Route path="catalogue" element={<Catalogue />} />
            <Route path="models" element={<Models />} />
            <Route path="models/compare" element={<Compare />} />
            <Route path="models/:version" element={<ModelPage />} />
            <Route path="experiments" element={<Experiments />} />
            <Route path="experiments/:experimentId" element={<ExperimentPage />} />
            <Route path="people" element={<People />} />
            <Route path="people/:userId" element={<Person />} />
            <Route path="*" element={<NotFound />} />
          </Routes>
        </Suspense>
      </Layout>
    </Gate>
  );
}

/** A key may be revoked while the console is open: the first refusal asks again who is here. */
function useRevokedKey() {
  const client = useQueryClient();
  useEffect(
    () =>
      client.getQueryCache().subscribe((event) => {
        if (event.type !== "updated" || event.action.type !== "error") return;
        const [area, name] = event.query.queryKey as readonly unknown[];
        const error: unknown = event.action.error;
        if (area === "ops" && name !== "session" && error instanceof Problem && error.status === 401)
          void client.invalidateQueries({ queryKey: opsKeys.session });
      }),
    [client],
  );
}
