import { X } from "lucide-react";
import { Toast as Radix } from "radix-ui";
import { createPortal } from "react-dom";
import { useTranslation } from "react-i18next";
import { useStore } from "../lib/store";
import { Button, IconButton } from "./button";
import { dismiss, toastHost, toasts } from "./toast-store";
import styles from "./toast.module.css";

const SHOWN_MS = 7_000;

/** Where messages appear; once, in the shell. F8 leads there. */
export function Toaster() {
  const { t } = useTranslation();
  const shown = useStore(toasts);
  const host = useStore(toastHost).element;
  const messages = (
    <Radix.Provider duration={SHOWN_MS} swipeDirection="right">
      {shown.map((message) => (
        <Radix.Root
          key={message.id}
          className={styles.toast}
          data-tone={message.tone ?? "plain"}
          type={message.tone === "error" ? "foreground" : "background"}
          onOpenChange={(open) => {
            if (!open) dismiss(message.id);
          }}
        >
          <div>
            <Radix.Title className={styles.title}>{message.title}</Radix.Title>
            {message.detail ? (
              <Radix.Description className={styles.detail}>{message.detail}</Radix.Description>
            ) : null}
          </div>
          {message.action ? (
            <Radix.Action asChild altText={message.action.label}>
              <Button variant="quiet" size="s" className={styles.action} onClick={message.action.run}>
                {message.action.label}
              </Button>
            </Radix.Action>
          ) : null}
          <Radix.Close asChild>
            <IconButton label={t("action.close")} size="s">
              <X size={16} aria-hidden="true" />
            </IconButton>
          </Radix.Close>
        </Radix.Root>
      ))}
      <Radix.Viewport className={styles.viewport} label={t("toasts", { hotkey: "{hotkey}" })} />
    </Radix.Provider>
  );
  return host === null ? messages : createPortal(messages, host);
}
