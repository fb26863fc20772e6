import { useState } from "react";
import { posterSources, type Film } from "../lib/films";
import { imageFailed, imageLoaded, imagesWorthTrying } from "../state/images";
import { TitleCard } from "./title-card";
import styles from "./poster.module.css";

interface Props {
  film: Film;
  /** How wide it is shown, as in the attribute of `<img>`. */
  sizes?: string;
  /** Above the fold: do not wait until it is near. */
  eager?: boolean;
}

/**
 * A film's poster in a box of its final size. The drawn card lies below it and stays where there is no poster or it
 * cannot be loaded. It names nothing: the title stands beside it.
 */
export function Poster({ film, sizes = "(max-width: 40rem) 9rem, 12.5rem", eager = false }: Props) {
  const url = film.poster_url ?? null;
  // By URL, so that another poster of the same film starts anew.
  const [state, setState] = useState<{ url: string | null; is: "loaded" | "failed" }>();
  const is = state?.url === url ? state.is : undefined;
  const wanted = url !== null && is !== "failed" && (is === "loaded" || imagesWorthTrying());
  return (
    <span className={styles.poster}>
      {is === "loaded" ? null : <TitleCard film={film} className={styles.layer} />}
      {wanted ? (
        <img
          {...posterSources(url)}
          className={styles.layer}
          data-loaded={is === "loaded"}
          sizes={sizes}
          alt=""
          width={342}
          height={513}
          loading={eager ? "eager" : "lazy"}
          decoding="async"
          onLoad={() => {
            imageLoaded();
            setState({ url, is: "loaded" });
          }}
          onError={() => {
            imageFailed();
            setState({ url, is: "failed" });
          }}
        />
      ) : null}
    </span>
  );
}
