import { useTranslation } from "react-i18next";
import { Problem } from "../../client/api";
import { Notice } from "./badge";

/** Why the API did not do what was asked, where it was asked. */
export function Refusal({ error }: { error: Error | null }) {
  const { t } = useTranslation("ops");
  const problem = error instanceof Problem ? error : null;
  return (
    <div role="alert">
      {error ? (
        <Notice tone="bad" title={problem?.unreachable ? t("unreachable") : error.message}>
          {problem?.errors.map((each) => (
            <p key={each.field}>
              {each.field}: {each.message}
            </p>
          ))}
          {problem?.fix ? <p>{problem.fix}</p> : null}
        </Notice>
      ) : null}
    </div>
  );
}
