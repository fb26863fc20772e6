/** What one build does not know of the host that serves it: read from /config.json at run time. */
export interface SiteConfig {
  /** Origin of the API; empty where it is the site's own. */
  api: string;
  demo: boolean;
  version: string;
  languages: string[];
  /** Base of TMDB's images, in front of `/w342/….jpg`. */
  images: string;
  links: { mlflow: string | null; airflow: string | null; grafana: string | null };
}

const PATIENCE_MS = 4_000;

let current: SiteConfig = {
  api: "",
  demo: false,
  version: "",
  languages: ["en", "ko"],
  images: "https://image.tmdb.org/t/p",
  links: { mlflow: null, airflow: null, grafana: null },
};

export function config(): SiteConfig {
  return current;
}

/** Reads the configuration once, at the start. The site opens without it too: the API may be away just then. */
export async function loadConfig(): Promise<void> {
  try {
    // As the preload of index.html asks, so that its answer is used and not fetched twice.
    const answer = await fetch("/config.json", {
      credentials: "same-origin",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.ok) current = { ...current, ...((await answer.json()) as Partial<SiteConfig>) };
  } catch {
    // The built-in values serve until the next load; the banner of the shell tells that the API is away.
  }
}
