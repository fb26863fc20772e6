import { KeyRound } from "lucide-react";
import { useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { Button } from "../../components/button";
import { ErrorState } from "../../components/states";
import { useTitle } from "../../shell/page";
import { Field } from "../parts/field";
import { PageSkeleton } from "../parts/page";
import styles from "./gate.module.css";
import { NotOperator, useOperator, useSignIn } from "./session";

/** Lets operators in, and asks everybody else for a key. */
export function Gate({ children }: { children: ReactNode }) {
  const { t } = useTranslation("ops");
  const session = useOperator();
  if (session.data?.role === "operator") return children;
  if (session.data) return <KeyForm />;
  return (
    <div className={styles.wait}>
      <h1 className="visually-hidden">{t("title")}</h1>
      {session.error ? <ErrorState error={session.error} onRetry={session.refetch} /> : <PageSkeleton />}
    </div>
  );
}

function KeyForm() {
  const { t } = useTranslation("ops");
  const [key, setKey] = useState("");
  const signIn = useSignIn();
  useTitle(t("gate.title"));
  return (
    <div className={styles.gate}>
      <span className={styles.icon} aria-hidden="true">
        <KeyRound size={26} />
      </span>
      <h1>{t("gate.title")}</h1>
      <p>{t("gate.lead")}</p>
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim() !== "") signIn.mutate(key.trim());
        }}
      >
        <Field
          label={t("gate.key")}
          hint={t("gate.hint")}
          error={signIn.error && <Why error={signIn.error} />}
        >
          {(control) => (
            <input
              {...control}
              type="password"
              autoComplete="off"
              spellCheck={false}
              value={key}
              onChange={(event) => setKey(event.target.value)}
            />
          )}
        </Field>
        <Button type="submit" variant="primary" busy={signIn.isPending} disabled={key.trim() === ""}>
          {t("gate.enter")}
        </Button>
      </form>
    </div>
  );
}

function Why({ error }: { error: Error }) {
  const { t } = useTranslation("ops");
  if (error instanceof NotOperator) return t("gate.notOperator", { role: error.message });
  if (error instanceof Problem && error.status === 401) return t("gate.wrong");
  if (error instanceof Problem && error.unreachable) return t("gate.unreachable");
  return error.message;
}
