import { useLayoutEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Check, Select } from "../parts/field";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { Section } from "../parts/page";
import type { Run, Schemas } from "../types";
import styles from "./log-viewer.module.css";
import { useLogs } from "./queries";

const LEVELS = ["all", "warning", "error"] as const;
const LOUD = { all: [], warning: ["warning", "error", "critical"], error: ["error", "critical"] };

/** The lines of a run, with the newest in sight while it goes on. */
export function LogViewer({ run }: { run: Run }) {
  const { t } = useTranslation("ops");
  const [level, setLevel] = useState<(typeof LEVELS)[number]>("all");
  const [follow, setFollow] = useState(true);
  const logs = useLogs(run);
  return (
    <Section
      title={t("runs.logs")}
      actions={
        <>
          <Check label={t("runs.follow")} checked={follow} onChange={setFollow} />
          <Select
            inline
            label={t("runs.level")}
            value={level}
            options={LEVELS.map((value) => ({ value, label: t(`runs.levels.${value}`) }))}
            onChange={setLevel}
          />
        </>
      }
    >
      <Loaded query={logs} height="20rem">
        {({ lines }) => (
          <Lines
            lines={
              level === "all" ? lines : lines.filter((line) => LOUD[level].includes(line.level.toLowerCase()))
            }
            follow={follow}
          />
        )}
      </Loaded>
    </Section>
  );
}

function Lines({ lines, follow }: { lines: Schemas["LogLine"][]; follow: boolean }) {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const box = useRef<HTMLDivElement>(null);
  const newest = lines.at(-1)?.id;
  useLayoutEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [follow, newest]);
  return (
    // A scrolling part must take the focus, or the keyboard cannot scroll it.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div ref={box} className={styles.log} role="log" aria-label={t("runs.logs")} tabIndex={0} lang="en">
      {lines.length === 0 ? <p className={styles.empty}>{t("runs.noLines")}</p> : null}
      {lines.map((line) => (
        <div key={line.id} className={styles.line} data-level={line.level.toLowerCase()}>
          <time dateTime={line.at}>{format.time(line.at)}</time>
          <span className={styles.level}>{line.level}</span>
          <span className={styles.event}>
            <strong>{line.event}</strong>
            {Object.entries(line.fields).map(([name, value]) => (
              <span key={name}>
                {" "}
                <span className={styles.name}>{name}=</span>
                {typeof value === "string" ? value : JSON.stringify(value)}
              </span>
            ))}
          </span>
        </div>
      ))}
    </div>
  );
}
