import { screen, waitFor, within } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { answering, renderSite } from "../../test/render";
import "../locales";
import { OpenAlerts } from "../overview/open-alerts";
import { MonitoringPage } from "./monitoring-page";

const AT = "2026-11-22T10:15:00Z";
const NOTHING = { computed_at: null, features: [], quality: null, history: [], alarms: [] };
const alert = (name: string, runbook: string | null, severity = "critical") => ({
  alert_id: name,
  name,
  severity,
  summary: `${name} burns`,
  description: null,
  since: AT,
  runbook_url: runbook,
  labels: {},
});
const alerts = (...found: object[]) => ({
  source: "alertmanager",
  error: null,
  total: found.length,
  alerts: found,
});

async function open(drift: object, found: object) {
  const { fetcher } = answering({ "GET /v1/drift": drift, "GET /v1/alerts": found });
  vi.stubGlobal("fetch", fetcher);
  await renderSite(<MonitoringPage />);
}

test("before the first look the page says how to look", async () => {
  await open(NOTHING, alerts());
  expect(await screen.findByText("Monitoring has not run yet")).toBeInTheDocument();
  expect(screen.getByText(/marquee monitor run/)).toBeInTheDocument();
  expect(await screen.findByText("Nothing is wrong")).toBeInTheDocument();
});

test("alerts lead to their runbooks where these can be opened", async () => {
  await open(
    NOTHING,
    alerts(
      alert("Api", "https://example.org/Api.md"),
      alert("Disk", "docs/runbooks/alerts/Disk.md"),
      alert("X", null),
    ),
  );
  const table = within(await screen.findByRole("table", { name: "Open alerts" }));
  expect(table.getAllByRole("link")).toHaveLength(1);
  const link = table.getByRole("link", { name: /Api/ });
  expect(link).toHaveAttribute("href", "https://example.org/Api.md");
  expect(link).toHaveAttribute("rel", "noreferrer");
  expect(table.getByText("docs/runbooks/alerts/Disk.md")).toBeInTheDocument();
});

test("an Alertmanager that is silent is no good news", async () => {
  await open(NOTHING, { ...alerts(), source: "drift", error: "Alertmanager at alpha cannot be reached." });
  expect(await screen.findByText("Alertmanager at alpha cannot be reached.")).toBeInTheDocument();
  expect(screen.queryByText("Nothing is wrong")).not.toBeInTheDocument();
});

test("features show how far they moved, and alarms lead to what trained anew", async () => {
  const feature = {
    kind: "feed",
    name: "live.rows",
    status: "shifted",
    psi: null,
    p_value: null,
    effects: [2.1, 0],
    threshold: 1.7,
    events: null,
    detail: { rows: 12, usual_rows: 400 },
  };
  const alarm = { alarm_id: 1, kind: "taste", raised_at: AT, evidence: { detail: { share: 0.5 } } };
  await open(
    {
      ...NOTHING,
      computed_at: AT,
      features: [feature],
      alarms: [
        { ...alarm, resolved_at: null, run_id: "7e57ab1e-0000" },
        { ...alarm, alarm_id: 2, resolved_at: AT, evidence: { resolved: "retrained" }, run_id: null },
      ],
    },
    alerts(),
  );
  const drift = within(await screen.findByRole("table", { name: "Drift" }));
  expect(drift.getByRole("rowheader")).toHaveTextContent("live: rowsrows 12, usual rows 400");
  expect(drift.getByText("Shifted")).toBeInTheDocument();
  expect(drift.getByText("No history yet")).toBeInTheDocument();
  const alarms = within(screen.getByRole("table", { name: "Alarms of drift" }));
  expect(alarms.getByRole("link")).toHaveAttribute("href", "/ops/runs/7e57ab1e-0000");
  expect(alarms.getByText("Trained anew")).toBeInTheDocument();
});

test("the overview names the worst of what is open, and nothing where nothing is", async () => {
  const many = ["A", "B", "C", "D"].map((name) => alert(name, null));
  vi.stubGlobal("fetch", answering({ "GET /v1/alerts": alerts(...many) }).fetcher);
  const { unmount } = await renderSite(<OpenAlerts />);
  expect(await screen.findByText("Open alerts: 4")).toBeInTheDocument();
  expect(screen.getAllByText(/burns/)).toHaveLength(3);
  expect(screen.getByRole("link", { name: "See monitoring" })).toHaveAttribute("href", "/ops/monitoring");
  unmount();
  vi.stubGlobal("fetch", answering({ "GET /v1/alerts": alerts() }).fetcher);
  const { container, queryClient } = await renderSite(<OpenAlerts />);
  await waitFor(() => expect(queryClient.isFetching()).toBe(0));
  expect(container).toBeEmptyDOMElement();
});
