import { EyeOff, Heart } from "lucide-react";
import { useTranslation } from "react-i18next";
import { useReport, useUndo } from "../client/events";
import type { Film } from "../lib/films";
import { useFeedback } from "../state/feedback";
import { IconButton } from "./button";

/** Like and "not interested", small, for a card. */
export function FilmActions({ film, requestId }: { film: Film; requestId?: string | undefined }) {
  const { t } = useTranslation();
  const report = useReport();
  const undo = useUndo();
  const likeKey = useFeedback(film.item_id)?.keys.like;
  return (
    <>
      <IconButton
        size="s"
        label={t("actionOf.like", { title: film.title })}
        pressed={likeKey !== undefined}
        onClick={() => {
          if (likeKey === undefined) report.mutate({ action: "like", film, requestId });
          else undo.mutate({ action: "like", film, eventKey: likeKey });
        }}
      >
        <Heart size={16} aria-hidden="true" {...(likeKey === undefined ? {} : { fill: "currentColor" })} />
      </IconButton>
      <IconButton
        size="s"
        label={t("actionOf.hide", { title: film.title })}
        onClick={() => report.mutate({ action: "hide", film, requestId })}
      >
        <EyeOff size={16} aria-hidden="true" />
      </IconButton>
    </>
  );
}
