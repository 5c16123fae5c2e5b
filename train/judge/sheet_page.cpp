#include <fmt/format.h>

#include <algorithm>

#include "train/judge/sheet.h"
#include "train/report/html_report.h"

namespace unfurl::train {
namespace {

// Nothing is loaded from elsewhere: the policy says so to the browser as well.
constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>Which is better?</title>
<style>
:root{--ink:#1d2430;--dim:#667085;--line:#d5d9e2;--page:#fff;--tile:#f6f7f9;--pick:#2f6fdf}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--line:#3a4150;--page:#15181e;--tile:#1e222b;--pick:#6ea0ff}}
*{box-sizing:border-box}[hidden]{display:none!important}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1180px;margin:0 auto;padding:20px}
h1{font-size:22px;margin:0}h2{font-size:20px;margin:18px 0 2px;overflow-wrap:anywhere}p{margin:4px 0;color:var(--dim)}
button,input{font:inherit;color:inherit;background:var(--tile);border:1px solid var(--line);border-radius:8px;padding:7px 16px}
button{cursor:pointer}button:hover,.side:hover{border-color:var(--pick)}button:disabled{opacity:.4;cursor:default}
.sides{display:grid;grid-template-columns:1fr 1fr;gap:16px;margin:14px 0}
.side{border:2px solid var(--line);border-radius:10px;padding:12px;cursor:pointer;background:var(--tile);overflow-wrap:anywhere}
.side h3{margin:0 0 8px;font-size:13px;color:var(--dim);font-weight:600}.side ul{margin:0;padding-left:20px}.side li{margin:0 0 8px}
.chosen{border-color:var(--pick);box-shadow:0 0 0 2px var(--pick)}
.images{display:grid;gap:8px}.four .images{grid-template-columns:1fr 1fr}.images img{width:100%;height:auto;display:block;border-radius:6px}
.row{display:flex;flex-wrap:wrap;gap:10px;align-items:center;justify-content:center;margin:12px 0}
.bar{height:6px;background:var(--tile);border-radius:3px;margin:10px 0;overflow:hidden}.bar div{height:100%;width:0;background:var(--pick)}
kbd{border:1px solid var(--line);border-radius:4px;padding:0 5px;font-size:13px}.item{border-top:1px solid var(--line)}
</style></head>
)";

constexpr const char* kScript = R"(<script>
"use strict";
(() => {
  const byId = id => document.getElementById(id);
  const items = [...document.querySelectorAll(".item")], sheet = document.body.dataset.sheet;
  const choices = ["left", "right", "tie"];
  let rater = "", votes = {}, at = 0;
  const keep = (key, value) => {
    try { localStorage.setItem(key, value); } catch (error) { byId("unkept").hidden = false; }
  };
  const kept = key => {
    try { return localStorage.getItem(key); } catch (error) { return null; }
  };
  const slot = () => "unfurl-sheet:" + sheet + ":" + rater;
  const load = () => {
    votes = {};
    let old = null;
    try { old = JSON.parse(kept(slot())); } catch (error) { old = null; }
    for (const item of items) {
      const vote = old ? old[item.dataset.item] : null;
      if (choices.includes(vote)) votes[item.dataset.item] = vote;
    }
  };
  const voted = item => item.dataset.item in votes;
  const show = () => {
    const done = items.filter(voted).length;
    items.forEach((item, i) => {
      item.hidden = i !== at;
      for (const choice of item.querySelectorAll("[data-vote]")) {
        const chosen = votes[item.dataset.item] === choice.dataset.vote;
        choice.classList.toggle("chosen", chosen);
        choice.setAttribute("aria-pressed", String(chosen));
      }
    });
    byId("count").textContent = (at + 1) + " of " + items.length + ", " + done + " voted";
    byId("fill").style.width = (100 * done / Math.max(items.length, 1)) + "%";
    byId("back").disabled = at === 0;
    byId("next").disabled = at + 1 >= items.length;
    byId("save").disabled = done === 0;
    byId("done").hidden = done < items.length;
  };
  const go = where => {
    at = Math.min(Math.max(where, 0), items.length - 1);
    show();
    scrollTo(0, 0);
  };
  const vote = choice => {
    votes[items[at].dataset.item] = choice;
    keep(slot(), JSON.stringify(votes));
    const later = items.findIndex((item, i) => i > at && !voted(item));
    const any = later >= 0 ? later : items.findIndex(item => !voted(item));
    go(any >= 0 ? any : at);
  };
  const started = () => !byId("sheet").hidden;
  byId("start").addEventListener("submit", event => {
    event.preventDefault();
    rater = byId("rater").value.trim();
    if (rater === "") return;
    keep("unfurl-sheet:" + sheet, rater);
    load();
    byId("start").hidden = true;
    byId("sheet").hidden = false;
    byId("who").textContent = rater;
    const first = items.findIndex(item => !voted(item));
    go(first >= 0 ? first : 0);
  });
  byId("other").addEventListener("click", () => {
    byId("start").hidden = false;
    byId("sheet").hidden = true;
    byId("rater").focus();
  });
  for (const item of items) {
    for (const choice of item.querySelectorAll("[data-vote]")) {
      choice.addEventListener("click", () => vote(choice.dataset.vote));
    }
  }
  byId("back").addEventListener("click", () => go(at - 1));
  byId("next").addEventListener("click", () => go(at + 1));
  byId("save").addEventListener("click", () => {
    const cast = items.filter(voted).map(item => ({item: item.dataset.item, vote: votes[item.dataset.item]}));
    const text = JSON.stringify({sheet: sheet, rater: rater, votes: cast}, null, 1) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
    link.download = "votes-" + rater.replace(/[^A-Za-z0-9]+/g, "-") + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  const keys = {ArrowLeft: "left", "1": "left", ArrowRight: "right", "2": "right", ArrowDown: "tie", "0": "tie"};
  document.addEventListener("keydown", event => {
    if (!started() || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.key in keys) {
      event.preventDefault();
      vote(keys[event.key]);
    } else if (event.key === "Backspace" || event.key === "ArrowUp") {
      event.preventDefault();
      go(at - 1);
    } else if (event.key === "n") {
      go(at + 1);
    } else if ((event.key === "Enter" || event.key === " ") && event.target.classList.contains("side")) {
      event.preventDefault();
      vote(event.target.dataset.vote);
    }
  });
  byId("rater").value = kept("unfurl-sheet:" + sheet) || "";
  byId("start").hidden = false;
  byId("sheet").hidden = true;
})();
</script>
)";

std::string side(const char* name, const SheetSide& side, bool images) {
  std::string out = fmt::format(
      "<div class=\"side\" role=\"button\" tabindex=\"0\" data-vote=\"{}\" aria-label=\"{} side\"><h3>{}</h3>", name,
      name, name);
  if (images) {
    out += "<div class=\"images\">";
    for (const std::string& image : side.images) {
      out += fmt::format("<img alt=\"\" src=\"{}\">", escape_html(image));
    }
    out += "</div>";
  } else {
    out += "<ul>";
    for (std::size_t i = 0; i < side.prompts.size(); ++i) {
      const auto before = side.prompts.begin() + static_cast<std::ptrdiff_t>(i);
      if (std::find(side.prompts.begin(), before, side.prompts[i]) != before) continue;
      out += fmt::format("<li>{}</li>", escape_html(side.prompts[i]));
    }
    out += "</ul>";
  }
  return out + "</div>\n";
}

}  // namespace

std::string sheet_page(const std::string& sheet, const std::string& note, const std::vector<SheetItem>& items) {
  std::string out = kHead;
  out += fmt::format("<body data-sheet=\"{}\">\n<h1>Which is better?</h1>\n<p>{}</p>\n", escape_html(sheet),
                     escape_html(note));
  out +=
      "<noscript><p>This page needs JavaScript to take votes.</p></noscript>\n"
      "<form id=\"start\" class=\"row\" hidden><label for=\"rater\">Your name</label>"
      "<input id=\"rater\" maxlength=\"80\" autocomplete=\"off\" required><button>Start</button></form>\n"
      "<p id=\"unkept\" hidden>This browser keeps nothing for this page: save the votes before you close it.</p>\n"
      "<main id=\"sheet\">\n<div class=\"bar\"><div id=\"fill\"></div></div>\n";
  for (const SheetItem& item : items) {
    const char* const ask = item.four     ? item.images ? "Compare the best image of each side: which do you prefer?"
                                                        : "Compare the best prompt of each side: of which would you "
                                                          "rather see the image?"
                            : item.images ? "Which image do you prefer for this query?"
                                          : "Of which prompt would you rather see the image, for this query?";
    out += fmt::format(
        "<section class=\"item{}\" data-item=\"{}\">\n<h2>{}</h2>\n<p>{}</p>\n<div class=\"sides\">\n{}{}</div>\n"
        "<div class=\"row\"><button type=\"button\" data-vote=\"tie\">tie</button></div>\n</section>\n",
        item.four ? " four" : "", escape_html(item.id), escape_html(item.query), ask,
        side("left", item.left, item.images), side("right", item.right, item.images));
  }
  out +=
      "<div class=\"row\"><button id=\"back\" type=\"button\">back</button><span id=\"count\"></span>"
      "<button id=\"next\" type=\"button\">skip</button><button id=\"save\" type=\"button\">save votes</button></div>\n"
      "<p id=\"done\" class=\"row\" hidden>All voted, thank you: save the votes and send the file.</p>\n"
      "<p class=\"row\"><span>Click a side, or <kbd>&larr;</kbd> left, <kbd>&rarr;</kbd> right, <kbd>&darr;</kbd> tie, "
      "<kbd>&uarr;</kbd> back, <kbd>n</kbd> skip.</span><span>Votes of <b id=\"who\"></b>.</span>"
      "<button id=\"other\" type=\"button\">not you?</button></p>\n</main>\n";
  return out + kScript + "</body></html>\n";
}

}  // namespace unfurl::train
