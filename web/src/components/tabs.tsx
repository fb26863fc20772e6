import { Tabs as Radix } from "radix-ui";
import type { ReactNode } from "react";
import styles from "./tabs.module.css";

interface Props {
  label: string;
  tabs: { value: string; label: ReactNode; content: ReactNode }[];
  value?: string;
  onChange?: (value: string) => void;
}

/** Tabs, steered by `value` or by themselves. */
export function Tabs({ label, tabs, value, onChange }: Props) {
  const first = tabs[0]?.value ?? "";
  const steering = value === undefined ? { defaultValue: first } : { value };
  return (
    <Radix.Root {...steering} {...(onChange ? { onValueChange: onChange } : {})}>
      <Radix.List className={styles.list} aria-label={label}>
        {tabs.map((tab) => (
          <Radix.Trigger key={tab.value} value={tab.value} className={styles.tab}>
            {tab.label}
          </Radix.Trigger>
        ))}
      </Radix.List>
      {tabs.map((tab) => (
        <Radix.Content key={tab.value} value={tab.value} className={styles.panel}>
          {tab.content}
        </Radix.Content>
      ))}
    </Radix.Root>
  );
}
