import { Monitor, Moon, Sun } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Button, IconButton } from "../components/button";
import { offered, setLanguage, useLang } from "../i18n";
import { setTheme, THEMES, useTheme } from "../theme";

const ICONS = { system: Monitor, light: Sun, dark: Moon };

/** To the other language, named in that language. */
export function LanguageSwitch() {
  const { t } = useTranslation();
  const lang = useLang();
  const other = offered().find((language) => language !== lang);
  if (other === undefined) return null;
  return (
    <Button
      variant="quiet"
      size="s"
      lang={other}
      title={t("language.switch")}
      onClick={() => void setLanguage(other)}
    >
      {t("language.short")}
    </Button>
  );
}

/** System, light, dark, in turn. */
export function ThemeSwitch() {
  const { t } = useTranslation();
  const theme = useTheme();
  const Icon = ICONS[theme];
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
  return (
    <IconButton label={t(`theme.${theme}`)} onClick={() => setTheme(next)}>
      <Icon size={18} aria-hidden="true" />
    </IconButton>
  );
}
