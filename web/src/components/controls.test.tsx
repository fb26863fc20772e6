import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { expect, test, vi } from "vitest";
import { renderSite } from "../test/render";
import { Button } from "./button";
import { Dialog } from "./dialog";
import { RatingInput } from "./rating";
import { Slider } from "./slider";
import { Tabs } from "./tabs";
import { drawing } from "./title-card-drawing";

function Opener() {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button onClick={() => setOpen(true)}>Open</Button>
      <Dialog open={open} onClose={() => setOpen(false)} title="Promote">
        It changes what everybody sees.
      </Dialog>
    </>
  );
}

test("a dialog opens with its title as name and closes by its button", async () => {
  await renderSite(<Opener />);
  await userEvent.click(screen.getByRole("button", { name: "Open" }));
  expect(screen.getByRole("dialog", { name: "Promote" })).toBeVisible();
  await userEvent.click(screen.getByRole("button", { name: "Close" }));
  expect(screen.queryByRole("dialog")).not.toBeInTheDocument();
});

test("the slider moves by keys and says what its value means", async () => {
  const change = vi.fn();
  const percent = (value: number) => `${value * 100} %`;
  await renderSite(<Slider label="Variety" value={0.5} onChange={change} format={percent} />);
  const thumb = screen.getByRole("slider", { name: "Variety" });
  expect(thumb).toHaveAttribute("aria-valuetext", "50 %");
  thumb.focus();
  await userEvent.keyboard("{ArrowRight}");
  expect(change).toHaveBeenCalledWith(0.6);
});

test("stars rate in points of ten", async () => {
  const rate = vi.fn();
  await renderSite(<RatingInput value={undefined} onRate={rate} />);
  await userEvent.click(screen.getByRole("radio", { name: "8 of 10" }));
  expect(rate).toHaveBeenCalledWith(8);
});

test("tabs show the panel of the chosen one", async () => {
  const tabs = ["One", "Two"].map((name) => ({ value: name, label: name, content: `${name} is shown` }));
  await renderSite(<Tabs label="Parts" tabs={tabs} />);
  await userEvent.click(screen.getByRole("tab", { name: "Two" }));
  expect(screen.getByRole("tabpanel")).toHaveTextContent("Two is shown");
});

test("a film's drawn card is always the same and keeps long titles within", () => {
  const film = { item_id: 1, title: "Dr. Strangelove or: How I Learned to Stop Worrying", year: 1964 };
  expect(drawing(film)).toEqual(drawing({ ...film }));
  expect(drawing(film).lines.length).toBeLessThanOrEqual(5);
  expect(drawing({ item_id: 2, title: "기생충", year: 2019, genres: ["Drama"] }).lines).toEqual(["기생충"]);
});
