import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import type { components } from "../../client/schema";
import { Skeleton } from "../../components/skeleton";
import { useLang } from "../../i18n";
import { useFormat } from "../../lib/format";
import styles from "./film.module.css";

type Details = components["schemas"]["Item"];

const MOST_PEOPLE = 8;
const MOST_KEYWORDS = 8;

/** What is known of a film besides its story. */
export function Facts({ details }: { details: Details | undefined }) {
  const { t } = useTranslation("film");
  const { date } = useFormat();
  const names = new Intl.DisplayNames(useLang(), { type: "language" });
  if (details === undefined) {
    return (
      <div className={styles.facts} aria-hidden="true">
        {[0, 1, 2, 3].map((line) => (
          <Skeleton key={line} height="1.5rem" />
        ))}
      </div>
    );
  }
  const { original_title, title, release_date, original_language, people, keywords } = details;
  return (
    <section className={styles.facts} aria-label={t("facts")}>
      <dl>
        <Fact name={t("original")}>{original_title === title ? null : original_title}</Fact>
        <Fact name={t("released")}>{release_date && date(release_date)}</Fact>
        <Fact name={t("language")}>{original_language && nameOf(names, original_language)}</Fact>
        <Fact name={t("people")}>{people.slice(0, MOST_PEOPLE).join(", ")}</Fact>
        <Fact name={t("keywords")}>{keywords.slice(0, MOST_KEYWORDS).join(", ")}</Fact>
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  if (!children) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Catalogues know codes that are no languages, such as `xx`. */
function nameOf(names: Intl.DisplayNames, code: string): string {
  try {
    return names.of(code) ?? code;
  } catch {
    return code;
  }
}
