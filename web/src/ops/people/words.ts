import { useTranslation } from "react-i18next";

/** The name of an event in words; one that is not known keeps its own. */
export function useEventName(): (event: string) => string {
  const { t, i18n } = useTranslation("ops");
  return (event) =>
    i18n.exists(`people.event.${event}`, { ns: "ops" })
      ? t(`people.event.${event}` as "people.event.watch")
      : event;
}
