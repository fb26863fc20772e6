import {
  Activity,
  Boxes,
  Clapperboard,
  Database,
  ExternalLink,
  FlaskConical,
  LayoutDashboard,
  LogOut,
  Menu,
  Radar,
  Users,
} from "lucide-react";
import { useId, useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { NavLink, useLocation } from "react-router";
import { Button } from "../../components/button";
import { config } from "../../config";
import { useOperator, useSignOut } from "../gate/session";
import styles from "./layout.module.css";

const PAGES = [
  { to: "/ops", name: "overview", Icon: LayoutDashboard },
  { to: "/ops/monitoring", name: "monitoring", Icon: Radar },
  { to: "/ops/runs", name: "runs", Icon: Activity },
  { to: "/ops/data", name: "data", Icon: Database },
  { to: "/ops/catalogue", name: "catalogue", Icon: Clapperboard },
  { to: "/ops/models", name: "models", Icon: Boxes },
  { to: "/ops/experiments", name: "experiments", Icon: FlaskConical },
  { to: "/ops/people", name: "people", Icon: Users },
] as const;

const TOOLS = { mlflow: "MLflow", airflow: "Airflow", grafana: "Grafana" } as const;

/** The console's menu, at the left or, on small screens, behind a button, and the page beside it. */
export function Layout({ children }: { children: ReactNode }) {
  const { t } = useTranslation("ops");
  const { pathname } = useLocation();
  const [openedAt, setOpenedAt] = useState<string | null>(null);
  const menuId = useId();
  // Opened on one page, it is closed on the next.
  const open = openedAt === pathname;
  const here = PAGES.findLast(({ to }) => pathname === to || pathname.startsWith(`${to}/`)) ?? PAGES[0];
  return (
    <div className={styles.console}>
      <div className={styles.side}>
        <Button
          className={styles.toggle}
          aria-expanded={open}
          aria-controls={menuId}
          onClick={() => setOpenedAt(open ? null : pathname)}
        >
          <Menu size={18} aria-hidden="true" />
          <span className="visually-hidden">{t("menu")}: </span>
          {t(`nav.${here.name}`)}
        </Button>
        <nav id={menuId} className={styles.menu} data-open={open} aria-label={t("nav.label")}>
          <ul role="list">
            {PAGES.map(({ to, name, Icon }) => (
              <li key={to}>
                <NavLink to={to} end={to === "/ops"}>
                  <Icon size={18} aria-hidden="true" />
                  {t(`nav.${name}`)}
                </NavLink>
              </li>
            ))}
          </ul>
          <Elsewhere />
          <SignOut />
        </nav>
      </div>
      <div className={styles.page}>{children}</div>
    </div>
  );
}

/** Other tools of this installation, where the configuration names them. */
function Elsewhere() {
  const { t } = useTranslation("ops");
  const { links } = config();
  const known = (Object.keys(TOOLS) as (keyof typeof TOOLS)[]).flatMap((tool) => {
    const href = links[tool];
    return href ? [{ tool, href }] : [];
  });
  if (known.length === 0) return null;
  return (
    <ul role="list" className={styles.elsewhere} aria-label={t("nav.elsewhere")}>
      {known.map(({ tool, href }) => (
        <li key={tool}>
          <a href={href} target="_blank" rel="noreferrer">
            <ExternalLink size={16} aria-hidden="true" />
            {TOOLS[tool]}
            <span className="visually-hidden"> ({t("nav.newTab")})</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function SignOut() {
  const { t } = useTranslation("ops");
  const session = useOperator();
  const signOut = useSignOut();
  if (!session.data?.hasKey) return <p className={styles.trust}>{t("gate.trusted")}</p>;
  return (
    <Button variant="quiet" size="s" className={styles.out} onClick={signOut}>
      <LogOut size={16} aria-hidden="true" />
      {t("gate.leave")}
    </Button>
  );
}
