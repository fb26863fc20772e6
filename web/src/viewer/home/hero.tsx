import { EyeOff, Heart, Info, Sparkles } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useReport } from "../../client/events";
import { Button, ButtonLink } from "../../components/button";
import { useFilmLink } from "../../components/film-link";
import { Poster } from "../../components/poster";
import { Skeleton } from "../../components/skeleton";
import { useFormat } from "../../lib/format";
import { imagesWorthTrying } from "../../state/images";
import type { Feature } from "./use-home";
import styles from "./hero.module.css";

interface Props {
  film: Feature | undefined;
  requestId: string | undefined;
  pending: boolean;
  /** Nothing is known of the viewer: they are asked in place of being told. */
  isNew: boolean;
}

/** The top of the home page, of the same height whatever it shows. */
export function Hero({ film, requestId, pending, isNew }: Props) {
  if (film === undefined) return pending ? <HeroSkeleton /> : null;
  return isNew ? <Invitation film={film} /> : <Featured film={film} requestId={requestId} />;
}

function Featured({ film, requestId }: { film: Feature; requestId: string | undefined }) {
  const { t } = useTranslation();
  const { t: home } = useTranslation("home");
  const { genre, minutes } = useFormat();
  const report = useReport();
  const link = useFilmLink(film, requestId);
  const facts = [
    film.year,
    film.runtime_minutes && minutes(film.runtime_minutes),
    film.genres?.slice(0, 3).map(genre).join(", "),
  ].filter(Boolean);
  return (
    <section className={styles.hero} aria-labelledby="hero-title">
      <Backdrop key={film.item_id} url={film.backdrop_url ?? null} />
      <div className={styles.text} key={`text-${film.item_id}`}>
        <p className={styles.eyebrow}>{home("heroEyebrow")}</p>
        <h2 id="hero-title" className={styles.title}>
          {film.title}
        </h2>
        <p className={styles.facts}>{facts.join(" · ")}</p>
        <p className={styles.overview}>{film.overview}</p>
        <div className={styles.buttons}>
          <ButtonLink {...link} variant="primary">
            <Info size={18} aria-hidden="true" />
            {home("details")}
          </ButtonLink>
          <Button onClick={() => report.mutate({ action: "like", film, requestId })}>
            <Heart size={18} aria-hidden="true" />
            {t("action.like")}
          </Button>
          <Button variant="quiet" onClick={() => report.mutate({ action: "hide", film, requestId })}>
            <EyeOff size={18} aria-hidden="true" />
            {t("action.hide")}
          </Button>
        </div>
      </div>
      <div className={styles.poster} aria-hidden="true">
        <Poster film={film} sizes="16rem" eager />
      </div>
    </section>
  );
}

function Invitation({ film }: { film: Feature }) {
  const { t } = useTranslation("home");
  return (
    <section className={styles.hero} aria-labelledby="hero-title">
      <div className={styles.text}>
        <p className={styles.eyebrow}>{t("inviteEyebrow")}</p>
        <h2 id="hero-title" className={styles.title}>
          {t("invite")}
        </h2>
        <p className={styles.overview}>{t("inviteDetail")}</p>
        <div className={styles.buttons}>
          <ButtonLink to="/welcome" variant="primary">
            <Sparkles size={18} aria-hidden="true" />
            {t("inviteAction")}
          </ButtonLink>
        </div>
      </div>
      <div className={styles.poster} aria-hidden="true">
        <Poster film={film} sizes="16rem" eager />
      </div>
    </section>
  );
}

function Backdrop({ url }: { url: string | null }) {
  const [is, setIs] = useState<"loaded" | "failed">();
  if (url === null || is === "failed" || !imagesWorthTrying()) return null;
  return (
    <img
      className={styles.backdrop}
      data-loaded={is === "loaded"}
      src={url.replace(/\/t\/p\/(?:w\d+|original)\//, "/t/p/w1280/")}
      alt=""
      onLoad={() => setIs("loaded")}
      onError={() => setIs("failed")}
    />
  );
}

function HeroSkeleton() {
  return (
    <div className={styles.hero} aria-hidden="true">
      <div className={styles.text}>
        <Skeleton width="8rem" />
        <Skeleton width="min(24rem, 80%)" height="2.75rem" />
        <Skeleton width="12rem" />
        <Skeleton width="min(34rem, 100%)" height="4.5rem" />
        <Skeleton width="10rem" height="2.5rem" radius="var(--r-full)" />
      </div>
      <div className={styles.poster}>
        <Skeleton ratio="2 / 3" radius="var(--r-2)" />
      </div>
    </div>
  );
}
