import { Search } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { usePlay, useUsers } from "../../client/queries";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Field, Input } from "../../components/field";
import { Skeleton } from "../../components/skeleton";
import { EmptyState, ErrorState } from "../../components/states";
import { toast } from "../../components/toast-store";
import { useFormat } from "../../lib/format";
import { useActing } from "./acting";
import styles from "./demo.module.css";

const LISTED = 100;
const SKELETONS = 6;
const GENRES = 3;

/** Whom a visitor may play; any of the demo's users can be named by number. */
export function DemoDialog({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation("profile");
  const { genre, number } = useFormat();
  const acting = useActing();
  const users = useUsers(LISTED);
  const play = usePlay();
  const [text, setText] = useState("");
  const shown = users.data?.users.filter((user) => String(user.user_id).startsWith(text));
  const isListed = shown?.some((user) => String(user.user_id) === text) ?? true;

  const become = (userId: number | null) =>
    play.mutate(userId, {
      onSuccess: () => {
        toast({ title: userId === null ? t("demo.isBack") : t("demo.acting", { id: userId }) });
        onClose();
      },
    });

  return (
    <Dialog
      open
      onClose={onClose}
      title={t("demo.title")}
      footer={
        acting === null ? undefined : (
          <Button variant="primary" busy={play.isPending} onClick={() => become(null)}>
            {t("demo.back")}
          </Button>
        )
      }
    >
      <p className={styles.intro}>{t("demo.intro")}</p>
      <form
        className={styles.find}
        onSubmit={(event) => {
          event.preventDefault();
          if (text !== "") become(Number(text));
        }}
      >
        <Field label={t("demo.find")} fault={faultOf(play.error)}>
          {(wiring) => (
            <Input
              {...wiring}
              inputMode="numeric"
              maxLength={15}
              autoComplete="off"
              value={text}
              onChange={(event) => {
                play.reset();
                setText(event.target.value.replace(/\D/g, ""));
              }}
            />
          )}
        </Field>
        {text !== "" ? (
          <Button type="submit" busy={play.isPending}>
            <Search size={16} aria-hidden="true" />
            {t("demo.become", { id: text })}
          </Button>
        ) : null}
      </form>
      {users.error ? (
        <ErrorState error={users.error} onRetry={users.refetch} />
      ) : shown?.length === 0 ? (
        <EmptyState
          title={t(text === "" ? "demo.none" : "demo.notListed")}
          detail={text === "" ? t("demo.noneDetail") : isListed ? undefined : t("demo.notListedDetail")}
        />
      ) : (
        <ul role="list" className={styles.users} aria-label={t("demo.users")} aria-busy={users.isPending}>
          {shown === undefined
            ? Array.from({ length: SKELETONS }, (_, index) => (
                <li key={index}>
                  <Skeleton height="3.75rem" radius="var(--r-2)" />
                </li>
              ))
            : shown.map((user) => (
                <li key={user.user_id}>
                  <button
                    type="button"
                    className={styles.user}
                    aria-current={user.user_id === acting ? "true" : undefined}
                    disabled={play.isPending}
                    onClick={() => become(user.user_id)}
                  >
                    <span className={styles.name}>
                      {t("demo.user", { id: user.user_id })}
                      {user.user_id === acting ? (
                        <span className={styles.current}>{t("demo.current")}</span>
                      ) : null}
                    </span>
                    <span className={styles.taste}>
                      {user.favourite_genres.slice(0, GENRES).map(genre).join(" · ")}
                    </span>
                    <span className={styles.events}>{t("demo.events", { events: number(user.events) })}</span>
                  </button>
                </li>
              ))}
        </ul>
      )}
    </Dialog>
  );
}

function faultOf(error: Error | null) {
  if (error === null) return undefined;
  return { message: error.message, fix: error instanceof Problem ? error.fix : null };
}
