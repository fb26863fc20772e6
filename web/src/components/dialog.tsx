import { X } from "lucide-react";
import { useEffect, useId, useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { IconButton } from "./button";
import { toastHost } from "./toast-store";
import styles from "./dialog.module.css";

interface Props {
  open: boolean;
  onClose: () => void;
  title: string;
  /** Shown to screen readers only. */
  hideTitle?: boolean;
  children: ReactNode;
  /** Buttons, at the bottom. */
  footer?: ReactNode;
  width?: string;
}

/** A modal dialog: the browser's own keeps the focus, closes on Escape and gives the focus back. */
export function Dialog(props: Props) {
  return <Modal {...props} kind="dialog" />;
}

/** A modal that comes from the side, on a phone from below. */
export function Sheet(props: Props) {
  return <Modal {...props} kind="sheet" />;
}

function Modal({ open, onClose, title, hideTitle, children, footer, width, kind }: Props & { kind: string }) {
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  const { t } = useTranslation();

  useEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    if (open && !dialog.open) dialog.showModal();
    if (!open && dialog.open) dialog.close();
    if (!open) return;
    const before = toastHost.get();
    toastHost.set({ element: dialog });
    return () => toastHost.set(before);
  }, [open]);

  return (
    // Escape is the browser's, so that a click beside it needs no key of its own.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/click-events-have-key-events
    <dialog
      ref={ref}
      className={styles.modal}
      data-kind={kind}
      style={width === undefined ? undefined : { inlineSize: `min(${width}, 100%)` }}
      aria-labelledby={titleId}
      onCancel={(event) => {
        // Whoever opened it closes it: it stays until it is told to go.
        event.preventDefault();
        onClose();
      }}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      {open ? (
        <div className={styles.body}>
          <header className={styles.head}>
            <h2 id={titleId} className={hideTitle ? "visually-hidden" : styles.title}>
              {title}
            </h2>
            <IconButton label={t("action.close")} className={styles.close} onClick={onClose}>
              <X size={20} aria-hidden="true" />
            </IconButton>
          </header>
          <div className={styles.content}>{children}</div>
          {footer ? <footer className={styles.foot}>{footer}</footer> : null}
        </div>
      ) : null}
    </dialog>
  );
}
