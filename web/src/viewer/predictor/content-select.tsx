import { Check, ChevronsUpDown } from "lucide-react";
import { useDeferredValue, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { useContents } from "../../client/queries";
import { Button } from "../../components/button";
import { Field, Input, type FieldFault } from "../../components/field";
import { Poster } from "../../components/poster";
import { useCombobox } from "../../components/use-combobox";
import { filmOf } from "../../lib/films";
import styles from "./predictor.module.css";

interface Props {
  chosen: number | null;
  onChoose: (contentId: number) => void;
  fault: FieldFault | undefined;
}

const MOST_SHOWN = 60;
const plain = (text: string) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** One of the films that the predictor knows, found by typing. */
export function ContentSelect({ chosen, onChoose, fault }: Props) {
  const { t } = useTranslation("predictor");
  const contents = useContents();
  const [typed, setTyped] = useState<string | null>(null);
  const known = useMemo(
    () =>
      (contents.data?.available_contents ?? []).map((content) => ({
        content,
        words: plain(content.title),
      })),
    [contents.data],
  );
  const current = known.find(({ content }) => content.content_id === chosen)?.content;
  const asked = useDeferredValue(plain((typed ?? "").trim()));
  const fitting = useMemo(() => known.filter(({ words }) => words.includes(asked)), [known, asked]);
  const shown = fitting.slice(0, MOST_SHOWN).map(({ content }) => content);

  const combobox = useCombobox({
    count: shown.length,
    first: true,
    onChoose: (index) => {
      const content = shown[index];
      if (content) onChoose(content.content_id);
      setTyped(null);
    },
  });

  return (
    // The focus of the field within is followed, not taken.
    // eslint-disable-next-line jsx-a11y/no-static-element-interactions
    <div
      className={styles.content}
      onBlur={(event) => {
        if (event.currentTarget.contains(event.relatedTarget)) return;
        combobox.close();
        setTyped(null);
      }}
    >
      <Field label={t("content.label")} hint={t("content.hint", { count: known.length })} fault={fault}>
        {(wiring) => (
          <div className={styles.control}>
            <Input
              {...wiring}
              {...combobox.inputProps}
              required
              placeholder={t(contents.isPending ? "content.loading" : "content.placeholder")}
              value={typed ?? current?.title ?? ""}
              onFocus={(event) => event.target.select()}
              onClick={() => {
                if (!combobox.isOpen) combobox.open();
              }}
              onChange={(event) => {
                setTyped(event.target.value);
                combobox.open();
              }}
            />
            <ChevronsUpDown size={16} aria-hidden="true" />
          </div>
        )}
      </Field>
      {contents.error ? (
        <p className={styles.failed} role="alert">
          {t("content.failed")}
          <Button size="s" onClick={() => void contents.refetch()}>
            {t("action.retry", { ns: "common" })}
          </Button>
        </p>
      ) : null}
      {combobox.isOpen && known.length > 0 ? (
        <div className={styles.popup}>
          {shown.length === 0 ? (
            <p className={styles.none} role="status">
              {t("content.none")}
            </p>
          ) : (
            <ul {...combobox.listProps} aria-label={t("content.label")} className={styles.list}>
              {shown.map((content, index) => (
                <li key={content.content_id} {...combobox.optionProps(index)} className={styles.option}>
                  <span className={styles.thumb}>
                    <Poster film={filmOf(content)} sizes="2rem" />
                  </span>
                  <span className={styles.name}>{content.title}</span>
                  {content.content_id === chosen ? <Check size={16} aria-hidden="true" /> : null}
                </li>
              ))}
            </ul>
          )}
          {fitting.length > shown.length ? (
            <p className={styles.rest}>{t("content.rest", { count: fitting.length - shown.length })}</p>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}
