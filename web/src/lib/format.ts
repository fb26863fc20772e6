import { useTranslation } from "react-i18next";
import { useLang } from "../i18n";

/** Numbers, dates and genres in the language of the site. */
export function useFormat() {
  const lang = useLang();
  const { t, i18n } = useTranslation();
  return {
    number: (value: number, options?: Intl.NumberFormatOptions) =>
      new Intl.NumberFormat(lang, options).format(value),
    percent: (share: number, digits = 0) =>
      new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: digits }).format(share),
    date: (iso: string) => new Intl.DateTimeFormat(lang, { dateStyle: "medium" }).format(new Date(iso)),
    dateTime: (iso: string) =>
      new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso)),
    minutes: (count: number) => t("minutes", { count }),
    /** Genres of films of one's own may be any word: those stay as they are. */
    genre: (name: string) => (i18n.exists(`genres.${name}`) ? t(`genres.${name}` as "genres.Drama") : name),
  };
}
