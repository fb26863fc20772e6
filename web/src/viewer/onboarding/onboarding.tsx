import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { useLikeAll } from "../../client/person";
import { usePopular } from "../../client/queries";
import { Button } from "../../components/button";
import { EmptyState, ErrorState } from "../../components/states";
import { newId } from "../../lib/ids";
import { useFormat } from "../../lib/format";
import { useTitle } from "../../shell/page";
import { PickGrid, PickGridSkeleton } from "./pick-grid";
import styles from "./onboarding.module.css";

const VARIED = { k: 72, diversity: 0.8 };
const FIRST = 24;
const ENOUGH = 3;

interface Props {
  /** Whether it is known by now that somebody is to be asked. */
  known: boolean | undefined;
  onDone: () => void;
}

/** Asks for films that the viewer likes, so that the first rows are theirs already. */
export function Onboarding({ known, onDone }: Props) {
  const { t } = useTranslation("onboarding");
  const { number } = useFormat();
  useTitle(t("title"));
  const [shown, setShown] = useState(FIRST);
  // Film → key of its event: sent again after a failure, it counts once.
  const [picked, setPicked] = useState<ReadonlyMap<number, string>>(new Map());
  const varied = usePopular(VARIED);
  const like = useLikeAll();
  const films = varied.data?.items;
  const count = picked.size;

  useEffect(() => {
    window.scrollTo({ top: 0 });
  }, []);

  const toggle = (itemId: number) =>
    setPicked((now) => {
      const next = new Map(now);
      if (!next.delete(itemId)) next.set(itemId, newId());
      return next;
    });
  const requestId = varied.data?.request_id;
  const finish = () => like.mutate({ picked, ...(requestId ? { requestId } : {}) }, { onSuccess: onDone });

  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <h1>{t("title")}</h1>
        <p>{t("detail")}</p>
      </header>
      {varied.error && films === undefined ? (
        <ErrorState error={varied.error} onRetry={varied.refetch} />
      ) : films?.length === 0 ? (
        <EmptyState title={t("empty")} detail={t("emptyDetail")} />
      ) : films === undefined || known === undefined ? (
        <PickGridSkeleton count={FIRST} />
      ) : (
        <PickGrid films={films.slice(0, shown)} picked={picked} onToggle={toggle} label={t("grid")} />
      )}
      {films !== undefined && films.length > shown ? (
        <p className={styles.more}>
          <Button onClick={() => setShown(shown + FIRST)}>{t("more")}</Button>
        </p>
      ) : null}
      <div className={styles.bar}>
        <div className={styles.tally}>
          <p role="status">{count === 0 ? t("none") : t("count", { count, number: number(count) })}</p>
          <p className={styles.hint}>
            {like.error
              ? like.error instanceof Problem && like.error.fix
                ? like.error.fix
                : t("failed")
              : t(count >= ENOUGH ? "enough" : "hint")}
          </p>
        </div>
        <Button variant="quiet" onClick={onDone}>
          {t("skip")}
        </Button>
        <Button variant="primary" disabled={count === 0} busy={like.isPending} onClick={finish}>
          {t("finish")}
        </Button>
      </div>
    </div>
  );
}
