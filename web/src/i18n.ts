import i18next, { type i18n } from "i18next";
import { initReactI18next, useTranslation } from "react-i18next";
import { config } from "./config";
import { resources } from "./locales";

export const LANGUAGES = ["en", "ko"] as const;
export type Language = (typeof LANGUAGES)[number];

const CHOSEN = "marquee.language";

/** Starts in the language chosen before, else in the browser's first that there is, else in English. */
export async function startI18n(): Promise<i18n> {
  await i18next.use(initReactI18next).init({
    resources,
    lng: preferred(),
    fallbackLng: "en",
    defaultNS: "common",
    showSupportNotice: false,
    interpolation: { escapeValue: false },
  });
  follow(i18next.language);
  i18next.on("languageChanged", follow);
  return i18next;
}

export async function setLanguage(language: Language): Promise<void> {
  localStorage.setItem(CHOSEN, language);
  await i18next.changeLanguage(language);
}

/** The language that the site shows, and asks the API for. */
export function useLang(): Language {
  const { i18n } = useTranslation();
  return i18n.language === "ko" ? "ko" : "en";
}

export function offered(): Language[] {
  return LANGUAGES.filter((language) => config().languages.includes(language));
}

function preferred(): Language {
  const wanted = [localStorage.getItem(CHOSEN), ...navigator.languages].map((tag) => tag?.slice(0, 2));
  return wanted.map((tag) => offered().find((language) => language === tag)).find(Boolean) ?? "en";
}

function follow(language: string): void {
  document.documentElement.lang = language;
}
