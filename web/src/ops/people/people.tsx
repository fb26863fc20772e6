import { useQuery } from "@tanstack/react-query";
import { Users } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate } from "react-router";
import { body, opsApi } from "../../client/api";
import { Button } from "../../components/button";
import { EmptyState } from "../../components/states";
import { opsKeys } from "../keys";
import { Tag } from "../parts/badge";
import { Field, Select } from "../parts/field";
import { useOpsFormat } from "../parts/format";
import { Loaded } from "../parts/loaded";
import { OpsPage, Section } from "../parts/page";
import { Table } from "../parts/table";
import styles from "./people.module.css";

const KINDS = ["virtual", "live", "imported"] as const;
const NUMBER = /^\d{1,16}$/;

/** Find somebody to look at. */
export function People() {
  const { t } = useTranslation("ops");
  const format = useOpsFormat();
  const [kind, setKind] = useState<(typeof KINDS)[number]>("virtual");
  const users = useQuery({
    queryKey: opsKeys.people(kind),
    queryFn: async ({ signal }) =>
      (await body(opsApi().GET("/v1/users", { params: { query: { kind, limit: 50 } }, signal }))).users,
  });
  return (
    <OpsPage title={t("people.title")} lead={t("people.lead")}>
      <Section title={t("people.find")}>
        <Find />
      </Section>
      <Section
        title={t("people.some")}
        actions={
          <Select
            inline
            label={t("people.kindOne")}
            value={kind}
            options={KINDS.map((value) => ({ value, label: t(`people.kind.${value}`) }))}
            onChange={setKind}
          />
        }
      >
        <Loaded query={users} height="24rem">
          {(found) =>
            found.length === 0 ? (
              <EmptyState icon={<Users />} title={t("people.emptyTitle")} detail={t("people.emptyDetail")} />
            ) : (
              <Table
                caption={t("people.some")}
                rows={found}
                rowKey={(user) => user.user_id}
                columns={[
                  {
                    key: "user",
                    label: t("people.number"),
                    cell: (user) => <Link to={`/ops/people/${user.user_id}`}>{user.user_id}</Link>,
                  },
                  {
                    key: "genres",
                    label: t("people.genres"),
                    cell: (user) => (
                      <span className={styles.genres}>
                        {user.favourite_genres.map((genre) => (
                          <Tag key={genre}>{format.genre(genre)}</Tag>
                        ))}
                      </span>
                    ),
                  },
                  {
                    key: "events",
                    label: t("people.events"),
                    numeric: true,
                    cell: (user) => format.number(user.events),
                  },
                ]}
              />
            )
          }
        </Loaded>
      </Section>
    </OpsPage>
  );
}

function Find() {
  const { t } = useTranslation("ops");
  const navigate = useNavigate();
  const [typed, setTyped] = useState("");
  const [tried, setTried] = useState(false);
  const wrong = !NUMBER.test(typed.trim());
  return (
    <form
      className={styles.find}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        setTried(true);
        if (!wrong) void navigate(`/ops/people/${typed.trim()}`);
      }}
    >
      <Field label={t("people.number")} error={tried && wrong ? t("people.wrongNumber") : null}>
        {(control) => (
          <input
            {...control}
            inputMode="numeric"
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
        )}
      </Field>
      <Button type="submit" variant="primary">
        {t("people.open")}
      </Button>
    </form>
  );
}
