import { Check } from "lucide-react";
import { useRef, useState, type KeyboardEvent } from "react";
import { Poster } from "../../components/poster";
import { FilmCardSkeleton } from "../../components/film-card";
import type { Film } from "../../lib/films";
import { stepIn } from "./grid-steps";
import styles from "./pick-grid.module.css";

interface Props {
  films: readonly Film[];
  picked: ReadonlyMap<number, string>;
  onToggle: (itemId: number) => void;
  label: string;
}

/** Films to choose from: one Tab stop, arrows in both directions, Space or Enter picks. */
export function PickGrid({ films, picked, onToggle, label }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const [chosen, setChosen] = useState(0);
  const active = Math.min(chosen, films.length - 1);

  const onKeyDown = (event: KeyboardEvent) => {
    const buttons = Array.from(list.current?.querySelectorAll("button") ?? []);
    const columns = buttons.filter((button) => button.offsetTop === buttons[0]?.offsetTop).length;
    const next = stepIn(event.key, active, buttons.length, columns);
    if (next === undefined) return;
    event.preventDefault();
    setChosen(next);
    buttons[next]?.focus();
  };
  return (
    // The list takes the arrow keys of the buttons in it.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <ul ref={list} role="list" className={styles.grid} aria-label={label} onKeyDown={onKeyDown}>
      {films.map((film, index) => (
        <li key={film.item_id}>
          <button
            type="button"
            className={styles.card}
            aria-pressed={picked.has(film.item_id)}
            tabIndex={index === active ? 0 : -1}
            onFocus={() => setChosen(index)}
            onClick={() => onToggle(film.item_id)}
          >
            <span className={styles.frame}>
              <Poster film={film} eager={index < 12} />
              <span className={styles.mark}>
                <Check size={20} strokeWidth={3} aria-hidden="true" />
              </span>
            </span>
            <span className={styles.title}>{film.title}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}

export function PickGridSkeleton({ count }: { count: number }) {
  return (
    <ul role="list" className={styles.grid} aria-busy="true">
      {Array.from({ length: count }, (_, index) => (
        <li key={index}>
          <FilmCardSkeleton />
        </li>
      ))}
    </ul>
  );
}
