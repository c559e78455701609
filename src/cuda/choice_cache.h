#pragma once
// Which engine does which convolution on which device: found by timing once, kept in a text file.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace deeplab::cuda {

// A cuDNN engine with its knobs: all that need be kept to make its engine plan again.
struct Choice {
    std::int64_t engine = -1;
    std::vector<std::pair<std::int64_t, std::int64_t>> knobs;  // type and value
    double milliseconds = 0;                                   // as measured; 0: not measured

    bool operator==(const Choice&) const = default;
};

// "2=5,13=-1": types and values of its knobs.
std::string knobs_text(const Choice& choice);

// The text's first line names the format; each other line is one entry: key, engine, knobs,
// milliseconds and a CRC-32 of all that, separated by tabs. A key says cuDNN's version, the device
// and the convolution, so that machines may share a file. What cannot be used is left out with a
// warning; nothing here throws for the sake of a bad file or folder.
//
class ChoiceCache {
public:
    // No file is read or written where `file` is empty; one that does not exist is an empty one.
    explicit ChoiceCache(std::filesystem::path file);

    std::optional<Choice> find(const std::string& key) const;
    // key: one line, no tabs. A choice that was not measured is found here, and not saved.
    void insert(const std::string& key, const Choice& choice);
    void erase(const std::string& key);
    std::size_t size() const { return entries_.size(); }

    std::string text() const;
    // Takes the entries of such a text over, in place of equal keys'; `origin` is named in
    // warnings. False, and nothing taken, where the first line is not ours.
    bool merge(const std::string& text, const std::string& origin);

    // Puts the entries inserted here beside those that others have put into the file meanwhile;
    // also those saved before that others, who read the file at the same time, have lost. The file
    // is whole at any time, and untouched where nothing is new or it is not ours.
    void save();

private:
    using Entries = std::map<std::string, Choice>;
    bool read();  // false: what stands there is not ours, or cannot be read

    std::filesystem::path file_;
    Entries entries_, inserted_, saved_;
};

}  // namespace deeplab::cuda
