import { useNavigate } from "react-router";
import { welcome } from "./newcomer";
import { Onboarding } from "./onboarding";

/** The same question for people who come back to it. */
export function WelcomePage() {
  const navigate = useNavigate();
  return (
    <Onboarding
      known
      onDone={() => {
        welcome();
        void navigate("/");
      }}
    />
  );
}
