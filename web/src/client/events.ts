import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { toast } from "../components/toast-store";
import { newId } from "../lib/ids";
import {
  feedbackOf,
  putAction,
  putFeedback,
  putRevoked,
  type Action,
  type Feedback,
} from "../state/feedback";
import { api, body, Problem } from "./api";
import { keys } from "./keys";

export interface Report {
  action: Action;
  film: { item_id: number; title: string };
  /** 0–10, with `rate`. */
  rating?: number;
  watchSeconds?: number;
  /** Of the list that the film was shown in: joins the event to it. */
  requestId?: string | undefined;
}

export interface Undo extends Pick<Report, "action" | "film"> {
  eventKey: string;
}

interface Optimistic {
  eventKey: string;
  before: Feedback | undefined;
}

/**
 * Report what the viewer does with a film. The rows change at once, the message offers to undo, and what the API
 * refuses is taken back and said.
 */
export function useReport() {
  const client = useQueryClient();
  const { t } = useTranslation();
  const undo = useUndo();
  return useMutation<string, Error, Report, Optimistic>({
    onMutate: ({ action, film, rating, watchSeconds }) => {
      const before = feedbackOf(film.item_id);
      const eventKey = newId();
      putFeedback(film.item_id, {
        ...before,
        keys: { ...before?.keys, [action]: eventKey },
        ...(rating === undefined ? {} : { rating }),
        ...(watchSeconds === undefined ? {} : { watchSeconds }),
      });
      return { eventKey, before };
    },
    mutationFn: async ({ action, film, rating, watchSeconds, requestId }) => {
      const eventKey = feedbackOf(film.item_id)?.keys[action] ?? newId();
      await body(
        api().POST("/v1/events", {
          body: {
            event: action,
            item_id: film.item_id,
            event_key: eventKey,
            ...(rating === undefined ? {} : { rating }),
            ...(watchSeconds === undefined ? {} : { watch_seconds: watchSeconds }),
            ...(requestId === undefined ? {} : { request_id: requestId }),
          },
        }),
      );
      return eventKey;
    },
    // The key makes an event safe to send again.
    retry: (count, error) => count < 2 && error instanceof Problem && error.retryable && !error.unreachable,
    onError: (error, { action, film }, optimistic) => {
      // Not what was done to the film meanwhile.
      if (feedbackOf(film.item_id)?.keys[action] === optimistic?.eventKey)
        putAction(film.item_id, action, optimistic?.before);
      toast({ tone: "error", title: t("feedback.failed", { title: film.title }), detail: fixOf(error) });
    },
    onSuccess: async (eventKey, { action, film }) => {
      toast({
        title: t(`feedback.${action}`, { title: film.title }),
        action: { label: t("action.undo"), run: () => undo.mutate({ action, film, eventKey }) },
      });
      await client.invalidateQueries({ queryKey: keys.personal });
    },
  });
}

/** Take an event back: one that `useReport` made, or one of the history. */
export function useUndo() {
  const client = useQueryClient();
  const { t } = useTranslation();
  return useMutation<unknown, Error, Undo, Feedback | undefined>({
    onMutate: ({ action, film, eventKey }) => {
      putRevoked(eventKey, true);
      const before = feedbackOf(film.item_id);
      putAction(film.item_id, action, undefined);
      return before;
    },
    mutationFn: async ({ eventKey: revokes }) => {
      await body(api().POST("/v1/events", { body: { event: "undo", revokes, event_key: newId() } }));
    },
    onError: (error, { action, film, eventKey }, before) => {
      putRevoked(eventKey, false);
      if (feedbackOf(film.item_id)?.keys[action] === undefined) putAction(film.item_id, action, before);
      toast({ tone: "error", title: t("feedback.failed", { title: film.title }), detail: fixOf(error) });
    },
    onSuccess: () => client.invalidateQueries({ queryKey: keys.personal }),
  });
}

/**
 * Tell of a look at a film, or of a list that came on screen. It helps the measures of the service and is nothing
 * the viewer asked for, so that a failure stays silent.
 */
export function reportQuietly(
  event: { event: "click"; item_id: number; request_id?: string } | { event: "view"; request_id: string },
): void {
  api()
    .POST("/v1/events", { body: { ...event, event_key: newId() } })
    .catch(() => undefined);
}

function fixOf(error: Error): string | undefined {
  return error instanceof Problem ? (error.fix ?? undefined) : undefined;
}
