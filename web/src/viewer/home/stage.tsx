import { memo } from "react";
import { useLocation, useMatch } from "react-router";
import { filmLinkOf, SheetDepth } from "../../components/film-link";
import { NotFound } from "../../shell/failure";
import { FilmPage } from "../film/film-page";
import { FilmSheet } from "../film/film-sheet";
import { Onboarding } from "../onboarding/onboarding";
import { useNewcomer, welcome } from "../onboarding/newcomer";
import { Home } from "./home";

/**
 * The home page, and films. A film that was opened from the home page lies over it, which stays as it is; one whose
 * address was opened is a page.
 */
export function Stage() {
  const location = useLocation();
  const wanted = useMatch("/films/:itemId")?.params.itemId;
  const link = filmLinkOf(location);
  if (wanted === undefined || link.depth !== undefined)
    return (
      <>
        <SheetDepth value={1}>
          <Front />
        </SheetDepth>
        <FilmSheet itemId={wanted === undefined ? undefined : Number(wanted)} link={link} />
      </>
    );
  return /^\d{1,15}$/.test(wanted) ? <FilmPage itemId={Number(wanted)} /> : <NotFound />;
}

/** What the home page is: for somebody who has just come, a question. */
const Front = memo(function Front() {
  const newcomer = useNewcomer();
  return newcomer === false ? <Home /> : <Onboarding known={newcomer} onDone={welcome} />;
});
