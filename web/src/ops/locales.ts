import i18next from "i18next";
import catalogueEn from "../locales/en/ops-catalogue.json";
import dataEn from "../locales/en/ops-data.json";
import experimentsEn from "../locales/en/ops-experiments.json";
import modelsEn from "../locales/en/ops-models.json";
import monitoringEn from "../locales/en/ops-monitoring.json";
import overviewEn from "../locales/en/ops-overview.json";
import peopleEn from "../locales/en/ops-people.json";
import runsEn from "../locales/en/ops-runs.json";
import shellEn from "../locales/en/ops.json";
import catalogueKo from "../locales/ko/ops-catalogue.json";
import dataKo from "../locales/ko/ops-data.json";
import experimentsKo from "../locales/ko/ops-experiments.json";
import modelsKo from "../locales/ko/ops-models.json";
import monitoringKo from "../locales/ko/ops-monitoring.json";
import overviewKo from "../locales/ko/ops-overview.json";
import peopleKo from "../locales/ko/ops-people.json";
import runsKo from "../locales/ko/ops-runs.json";
import shellKo from "../locales/ko/ops.json";

export const words = {
  en: {
    ...shellEn,
    overview: overviewEn,
    monitoring: monitoringEn,
    runs: runsEn,
    data: dataEn,
    catalogue: catalogueEn,
    models: modelsEn,
    experiments: experimentsEn,
    people: peopleEn,
  },
  ko: {
    ...shellKo,
    overview: overviewKo,
    monitoring: monitoringKo,
    runs: runsKo,
    data: dataKo,
    catalogue: catalogueKo,
    models: modelsKo,
    experiments: experimentsKo,
    people: peopleKo,
  },
};

// Loaded with the console's chunk, so that viewers do not carry its words.
if (i18next.isInitialized) addWords();
i18next.on("initialized", addWords);

function addWords() {
  i18next.addResourceBundle("en", "ops", words.en);
  i18next.addResourceBundle("ko", "ops", words.ko);
}
