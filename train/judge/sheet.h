// A page on which people vote between two systems of a judgement, blind, and the votes read back.
//
// In the folder of the judgement:
//
//   sheet.html       every query with one sample of each system (1x1), and with four of each (4x4), sides shuffled.
//                    Images where the image side kept files, which are then inside the page, else prompts. It works
//                    from a disk, needs nothing else, and gives the votes as a file to save
//   sheet-key.json   which side is whose. The sides follow from the seed and all expansions, which the page does not
//                    hold
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/judge/statistics.h"

namespace unfurl::train {

struct SheetSettings {
  std::filesystem::path folder;  // of the judgement
  std::string pair;              // "A,B"; "": the first model against the straight query
  std::int64_t rounds = 1;       // 1x1 comparisons of a query, each of other samples
  std::uint64_t seed = 1;
};

/// Throws UserError for a folder that is no judgement, and for systems that it has not.
void write_sheet(const SheetSettings& settings);

struct VoteSettings {
  std::filesystem::path folder;              // of the judgement, with its sheet-key.json
  std::vector<std::filesystem::path> files;  // of votes, as the page saves them
  Bootstrap bootstrap;
  bool json = false;
};

/// Prints how often each of the two won, with intervals over queries, and whether raters agree. Throws UserError for a
/// file that is none of votes on this sheet.
void read_votes(const VoteSettings& settings);

/// What stands on one side of an item: images as data: URIs, or prompts.
struct SheetSide {
  std::vector<std::string> images, prompts;
};
struct SheetItem {
  std::string id;  // "i001"
  std::string query;
  bool four = false;  // best of four against best of four
  bool images = false;
  SheetSide left, right;
};

/// `sheet` is the sheet's hash, `note` stands below the title.
std::string sheet_page(const std::string& sheet, const std::string& note, const std::vector<SheetItem>& items);

}  // namespace unfurl::train
