import { useMutation } from "@tanstack/react-query";
import { Download, Trash2 } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { api, body } from "../../client/api";
import { useErase, useSession } from "../../client/queries";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { ErrorState } from "../../components/states";
import { toast } from "../../components/toast-store";
import { unwelcome } from "../onboarding/newcomer";
import { useActing } from "./acting";
import styles from "./profile.module.css";

/** One's own data: take it along, or have it erased. */
export function Privacy() {
  const { t } = useTranslation("profile");
  const userId = useSession().data?.user_id ?? null;
  const acting = useActing();
  const [asking, setAsking] = useState(false);
  const download = useMutation({
    mutationFn: saveExport,
    onError: (error) =>
      toast({ tone: "error", title: t("privacy.exportFailed"), detail: error.message || undefined }),
  });
  return (
    <section className={styles.panel} aria-labelledby="privacy">
      <h2 id="privacy">{t("privacy.title")}</h2>
      <p className={styles.fine}>{t("privacy.intro")}</p>
      <div className={styles.buttons}>
        <Button
          busy={download.isPending}
          disabled={userId === null}
          onClick={() => {
            if (userId !== null) download.mutate(userId);
          }}
        >
          <Download size={16} aria-hidden="true" />
          {t("privacy.export")}
        </Button>
        {acting === null && userId !== null ? (
          <Button variant="danger" onClick={() => setAsking(true)}>
            <Trash2 size={16} aria-hidden="true" />
            {t("privacy.forget")}
          </Button>
        ) : null}
      </div>
      {acting !== null ? <p className={styles.fine}>{t("privacy.notPlayed")}</p> : null}
      {userId === null ? null : <Forget userId={userId} open={asking} onClose={() => setAsking(false)} />}
    </section>
  );
}

function Forget({ userId, open, onClose }: { userId: number; open: boolean; onClose: () => void }) {
  const { t } = useTranslation("profile");
  const navigate = useNavigate();
  const erase = useErase();
  return (
    <Dialog
      open={open}
      onClose={() => {
        erase.reset();
        onClose();
      }}
      title={t("privacy.forgetTitle")}
      footer={
        <>
          <Button onClick={onClose}>{t("privacy.keep")}</Button>
          <Button
            variant="danger"
            busy={erase.isPending}
            onClick={() =>
              erase.mutate(userId, {
                onSuccess: () => {
                  unwelcome();
                  onClose();
                  toast({ title: t("privacy.forgotten"), detail: t("privacy.forgottenDetail") });
                  void navigate("/");
                },
              })
            }
          >
            {t("privacy.forgetYes")}
          </Button>
        </>
      }
    >
      <div className={styles.dialog}>
        <p>{t("privacy.forgetDetail")}</p>
        <p className={styles.fine}>{t("privacy.forgetFirst")}</p>
        {erase.error ? <ErrorState error={erase.error} title={t("privacy.forgetFailed")} /> : null}
      </div>
    </Dialog>
  );
}

async function saveExport(userId: number): Promise<void> {
  const request = { params: { path: { user_id: userId } }, parseAs: "blob" } as const;
  const url = URL.createObjectURL(await body(api().GET("/v1/users/{user_id}/export", request)));
  const link = document.createElement("a");
  link.href = url;
  link.download = `marquee-user-${userId}.json`;
  link.click();
  URL.revokeObjectURL(url);
}
