import { Search, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useNavigate, useSearchParams } from "react-router";
import { useItems } from "../../client/queries";
import { IconButton } from "../../components/button";
import { useCombobox } from "../../components/use-combobox";
import { useDebounced } from "../../lib/use-debounced";
import { usePreferences } from "../../state/preferences";
import { readFilters, writeFilters } from "./filters";
import { Suggestions } from "./suggestions";
import styles from "./search-box.module.css";

const REST_MS = 180;
const SUGGESTED = 6;

/** Search as you type: films below the field, all of them on their own page. The key "/" leads here. */
export function SearchBox() {
  const { t } = useTranslation("search");
  const navigate = useNavigate();
  const [address] = useSearchParams();
  const onResults = useLocation().pathname === "/search";
  const asked = onResults ? (address.get("q") ?? "") : "";
  const [text, setText] = useState(asked);
  const [adopted, setAdopted] = useState(asked);
  if (asked !== adopted) {
    setAdopted(asked);
    setText(asked);
  }
  const field = useRef<HTMLInputElement>(null);
  useSlash(field);

  const wanted = text.trim();
  const q = useDebounced(wanted, REST_MS);
  const found = useItems({ q, limit: SUGGESTED }, q !== "" && wanted !== "");
  const films = wanted === "" || found.error ? [] : (found.data?.pages[0]?.items ?? []);
  const all = films.length > 0;

  const showAll = () => {
    const filters = readFilters(onResults ? address : new URLSearchParams());
    void navigate(`/search?${writeFilters({ ...filters, q: wanted }).toString()}`);
  };
  const combobox = useCombobox({
    count: films.length + Number(all),
    onChoose: (index) => {
      const film = films[index];
      if (film === undefined) showAll();
      else {
        setText("");
        void navigate(`/films/${film.item_id}`);
      }
    },
    onEscape: () => setText(""),
  });

  return (
    <search
      className={styles.box}
      onBlur={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) combobox.close();
      }}
    >
      <form
        className={styles.form}
        action="/search"
        onSubmit={(event) => {
          event.preventDefault();
          combobox.close();
          showAll();
        }}
      >
        <Search className={styles.icon} size={18} aria-hidden="true" />
        <input
          ref={field}
          {...combobox.inputProps}
          className={styles.input}
          type="text"
          enterKeyHint="search"
          name="q"
          maxLength={200}
          aria-label={t("label")}
          aria-keyshortcuts="/"
          placeholder={t("placeholder")}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            combobox.open();
          }}
          onClick={combobox.open}
        />
        {text === "" ? (
          <kbd className={styles.key} aria-hidden="true">
            /
          </kbd>
        ) : (
          <IconButton
            size="s"
            className={styles.clear}
            label={t("clear")}
            onClick={() => {
              setText("");
              field.current?.focus();
            }}
          >
            <X size={16} aria-hidden="true" />
          </IconButton>
        )}
      </form>
      {combobox.isOpen && wanted !== "" ? (
        <Suggestions
          combobox={combobox}
          films={films}
          q={wanted}
          isWaiting={found.isPending || found.isPlaceholderData || q !== wanted}
          error={found.error}
          onRetry={() => void found.refetch()}
        />
      ) : null}
    </search>
  );
}

function useSlash(field: React.RefObject<HTMLInputElement | null>): void {
  const { slash } = usePreferences();
  useEffect(() => {
    if (!slash) return;
    const listen = (event: KeyboardEvent) => {
      const typing =
        event.target instanceof HTMLElement &&
        event.target.closest("input, select, textarea, [contenteditable]") !== null;
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
      if (document.querySelector("dialog[open]")) return;
      event.preventDefault();
      field.current?.focus();
      field.current?.select();
    };
    window.addEventListener("keydown", listen);
    return () => window.removeEventListener("keydown", listen);
  }, [field, slash]);
}
