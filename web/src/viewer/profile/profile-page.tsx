import { useTranslation } from "react-i18next";
import { useSession } from "../../client/queries";
import { Button } from "../../components/button";
import { Skeleton } from "../../components/skeleton";
import { ErrorState } from "../../components/states";
import { config } from "../../config";
import { useFormat } from "../../lib/format";
import { Page } from "../../shell/page";
import { useActing } from "./acting";
import { choosingDemoUser } from "./demo-store";
import { History } from "./history";
import { Privacy } from "./privacy";
import { useProfile } from "./use-profile";
import { Wishes } from "./wishes";
import styles from "./profile.module.css";

/** What is known of the viewer, and what they may do about it. */
export function ProfilePage() {
  const { t } = useTranslation("profile");
  const session = useSession();
  return (
    <Page title={t("title")}>
      {session.error ? (
        <ErrorState error={session.error} onRetry={session.refetch} />
      ) : (
        <div className={styles.layout}>
          <History />
          <div className={styles.side}>
            <Self />
            <Wishes />
            <Privacy />
          </div>
        </div>
      )}
    </Page>
  );
}

function Self() {
  const { t } = useTranslation("profile");
  const { genre, number, date } = useFormat();
  const acting = useActing();
  const profile = useProfile();
  const genres = profile.data?.favourite_genres ?? [];
  const events = Object.values(profile.data?.events ?? {}).reduce((sum, count) => sum + count, 0);
  const since = profile.data?.first_event_at;
  return (
    <section className={styles.panel} aria-labelledby="self" aria-busy={profile.isPending}>
      <h2 id="self">{acting === null ? t("self.title") : t("demo.user", { id: acting })}</h2>
      {profile.isPending ? (
        <>
          <Skeleton width="70%" height="1.3125rem" />
          <Skeleton height="2rem" radius="var(--r-full)" />
        </>
      ) : profile.error ? (
        <p className={styles.fine}>{t("self.unknown")}</p>
      ) : (
        <>
          <p className={styles.fine}>
            {since ? t("self.since", { events: number(events), date: date(since) }) : t("self.nothing")}
          </p>
          {genres.length > 0 ? (
            <>
              <h3>{t("self.genres")}</h3>
              <ul role="list" className={styles.chips}>
                {genres.map((name) => (
                  <li key={name}>{genre(name)}</li>
                ))}
              </ul>
            </>
          ) : null}
        </>
      )}
      {config().demo ? <Button onClick={() => choosingDemoUser.set(true)}>{t("demo.switch")}</Button> : null}
    </section>
  );
}
