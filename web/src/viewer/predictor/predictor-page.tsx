import { Clapperboard } from "lucide-react";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import { useLatest, usePredict, useSession } from "../../client/queries";
import { FilmActions } from "../../components/film-actions";
import { FilmCard, FilmCardSkeleton } from "../../components/film-card";
import { FilmRow } from "../../components/film-row";
import { EmptyState } from "../../components/states";
import { filmOf } from "../../lib/films";
import { Page } from "../../shell/page";
import { PredictorForm } from "./predictor-form";
import type { Viewing } from "./draft";
import styles from "./predictor.module.css";

const ANSWERED = 12;

/** The reference system's predictor to try: what somebody would watch after one viewing. */
export function PredictorPage() {
  const { t } = useTranslation("predictor");
  const userId = useSession().data?.user_id ?? null;
  const predict = usePredict();
  const latest = useLatest();
  const answer = useRef<HTMLElement>(null);
  const films = predict.data?.recommendations.map(filmOf);

  useEffect(() => {
    // On a phone the answer lies below the form.
    const top = answer.current?.getBoundingClientRect().top ?? 0;
    if (predict.data && top > window.innerHeight / 2) answer.current?.scrollIntoView();
  }, [predict.data]);

  const ask = (viewing: Viewing) => {
    if (userId !== null) predict.mutate({ user_id: userId, k: ANSWERED, ...viewing });
  };

  return (
    <>
      <Page title={t("title")}>
        <p className={styles.intro}>{t("intro")}</p>
        <div className={styles.layout}>
          <PredictorForm busy={predict.isPending || userId === null} error={predict.error} onAsk={ask} />
          <section
            ref={answer}
            className={styles.answer}
            aria-labelledby="answer"
            aria-busy={predict.isPending}
          >
            <h2 id="answer">{t("answer")}</h2>
            <p className="visually-hidden" role="status">
              {films ? t("answered", { count: films.length }) : ""}
            </p>
            {predict.isPending ? (
              <ul role="list" className={styles.grid}>
                {Array.from({ length: ANSWERED }, (_, index) => (
                  <li key={index}>
                    <FilmCardSkeleton />
                  </li>
                ))}
              </ul>
            ) : films === undefined || films.length === 0 ? (
              <EmptyState
                icon={<Clapperboard />}
                title={films ? t("nothing") : t("waiting")}
                detail={films ? undefined : t("waitingDetail")}
              />
            ) : (
              <ol role="list" className={styles.grid}>
                {films.map((film) => (
                  <li key={film.item_id}>
                    <FilmCard film={film} actions={<FilmActions film={film} />} />
                  </li>
                ))}
              </ol>
            )}
          </section>
        </div>
      </Page>
      <div className={styles.latest}>
        <FilmRow
          title={t("latest")}
          films={latest.data?.recent_recommendations.map(filmOf)}
          error={latest.error}
          onRetry={latest.refetch}
          empty={{ title: t("latestEmpty") }}
        />
      </div>
    </>
  );
}
