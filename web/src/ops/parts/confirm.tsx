import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import styles from "./confirm.module.css";
import { Refusal } from "./refusal";

interface Props {
  open: boolean;
  onClose: () => void;
  title: string;
  /** What will change. */
  children: ReactNode;
  confirm: string;
  onConfirm: () => void;
  busy: boolean;
  danger?: boolean;
  disabled?: boolean;
  error?: Error | null;
  width?: string;
}

/** Asks before anything that others will notice; what the API refuses is said in the same place. */
export function Confirm(props: Props) {
  const { t } = useTranslation("ops");
  const { open, onClose, title, children, confirm, onConfirm, busy, danger, disabled, error, width } = props;
  return (
    <Dialog
      open={open}
      onClose={onClose}
      title={title}
      {...(width === undefined ? {} : { width })}
      footer={
        <>
          <Button onClick={onClose}>{t("cancel")}</Button>
          <Button
            variant={danger ? "danger" : "primary"}
            busy={busy}
            disabled={disabled === true}
            onClick={onConfirm}
          >
            {confirm}
          </Button>
        </>
      }
    >
      <div className={styles.body}>
        {children}
        <Refusal error={error ?? null} />
      </div>
    </Dialog>
  );
}
