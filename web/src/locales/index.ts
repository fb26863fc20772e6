// One file per area, so that a key is found where its page is. Those of the console are loaded with it: ops-*.json.
import commonEn from "./en/common.json";
import filmEn from "./en/film.json";
import homeEn from "./en/home.json";
import onboardingEn from "./en/onboarding.json";
import predictorEn from "./en/predictor.json";
import profileEn from "./en/profile.json";
import searchEn from "./en/search.json";
import commonKo from "./ko/common.json";
import filmKo from "./ko/film.json";
import homeKo from "./ko/home.json";
import onboardingKo from "./ko/onboarding.json";
import predictorKo from "./ko/predictor.json";
import profileKo from "./ko/profile.json";
import searchKo from "./ko/search.json";

export const resources = {
  en: {
    common: commonEn,
    film: filmEn,
    home: homeEn,
    onboarding: onboardingEn,
    predictor: predictorEn,
    profile: profileEn,
    search: searchEn,
  },
  ko: {
    common: commonKo,
    film: filmKo,
    home: homeKo,
    onboarding: onboardingKo,
    predictor: predictorKo,
    profile: profileKo,
    search: searchKo,
  },
};
