import { useEffect, useState } from "react";

const PAUSE_MS = 200;

/** A value once it has stopped changing: not every letter is a question to the API. */
export function useSettled<T>(value: T): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
