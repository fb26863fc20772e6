import { useEffect, useRef } from "react";
import { useNavigate } from "react-router";
import { useTranslation } from "react-i18next";
import { useItem } from "../../client/queries";
import { SheetDepth, type FilmLink } from "../../components/film-link";
import { Sheet } from "../../components/dialog";
import { useTitle } from "../../shell/page";
import { FilmView } from "./film-view";
import styles from "./film.module.css";

interface Props {
  /** Undefined while the sheet is closed. */
  itemId: number | undefined;
  link: FilmLink;
}

/** A film over the home page. It is an entry of the browser's history: back closes it, and so does its button. */
export function FilmSheet({ itemId, link }: Props) {
  const { t } = useTranslation("film");
  const navigate = useNavigate();
  const open = itemId !== undefined;
  const title = useItem(itemId ?? 0, open).data?.title ?? link.film?.title;
  const depth = link.depth ?? 1;
  const content = useRef<HTMLDivElement>(null);
  const before = useRef<number>(undefined);
  useTitle(open ? title : undefined);

  useEffect(() => {
    const replaced = before.current !== undefined && itemId !== undefined;
    const closed = before.current !== undefined && itemId === undefined;
    before.current = itemId;
    // The card that opened it may have left its row meanwhile.
    if (closed && document.activeElement === document.body)
      document.getElementById("content")?.focus({ preventScroll: true });
    // Another film in the same sheet: the reader begins at its top.
    if (!replaced) return;
    content.current?.focus({ preventScroll: true });
    content.current?.closest("dialog")?.scrollTo({ top: 0 });
  }, [itemId]);

  return (
    <Sheet
      open={open}
      // It is asked again when it has closed, because the address said so.
      onClose={() => {
        if (open) void navigate(-depth);
      }}
      title={title ?? t("film")}
      width="54rem"
    >
      <div ref={content} tabIndex={-1} className={styles.sheet}>
        {open ? (
          <SheetDepth value={depth + 1}>
            <FilmView key={itemId} itemId={itemId} known={link.film} requestId={link.requestId} />
          </SheetDepth>
        ) : null}
      </div>
    </Sheet>
  );
}
