import { useTranslation } from "react-i18next";
import { Select } from "../../components/field";
import { SORTS, type Filters } from "./filters";
import styles from "./search.module.css";

interface Props {
  filters: Filters;
  onChange: (change: Partial<Filters>) => void;
}

export function SortSelect({ filters, onChange }: Props) {
  const { t } = useTranslation("search");
  // Without words nothing is more relevant than the popular.
  const offered = filters.q.trim() === "" ? SORTS.slice(1) : SORTS;
  const value = offered.includes(filters.sort) ? filters.sort : "popularity";
  return (
    <label className={styles.sort}>
      <span>{t("sort.label")}</span>
      <Select
        value={value}
        onChange={(event) => {
          const sort = SORTS.find((known) => known === event.target.value);
          if (sort) onChange({ sort });
        }}
      >
        {offered.map((sort) => (
          <option key={sort} value={sort}>
            {t(`sort.${sort}`)}
          </option>
        ))}
      </Select>
    </label>
  );
}
