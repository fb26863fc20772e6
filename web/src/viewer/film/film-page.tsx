import { useLocation } from "react-router";
import { useItem } from "../../client/queries";
import { filmLinkOf } from "../../components/film-link";
import { Skeleton } from "../../components/skeleton";
import { useTitle } from "../../shell/page";
import { FilmView } from "./film-view";
import styles from "./film.module.css";

/** A film as a page of its own: where its address was opened, not a card on the home page. */
export function FilmPage({ itemId }: { itemId: number }) {
  const { film: known, requestId } = filmLinkOf(useLocation());
  useTitle(useItem(itemId).data?.title ?? known?.title);
  return (
    <div className={styles.page}>
      <FilmView
        key={itemId}
        itemId={itemId}
        known={known}
        requestId={requestId}
        heading={(title) => <h1>{title ?? <Skeleton width="min(20rem, 90%)" />}</h1>}
      />
    </div>
  );
}
