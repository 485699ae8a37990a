// The items that walks visit most, for importance neighbourhoods (neighborhoods.py).
//
// A row's visits are counted in a hash table that stays in the cache, which takes a fraction of the
// time of sorting them.

#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr uint32_t kLow = 0x7fffffff;
constexpr uint32_t kGolden = 0x9e3779b1;
constexpr int32_t kNobody = -1;

// As hashing.py has it: a bijection of the numbers below 2^31 for each salt.
uint32_t Scrambled(uint32_t id, uint32_t salt) {
  uint32_t word = id ^ salt;
  word = ((word ^ (word >> 16)) * 0x7feb352du) & kLow;
  word = ((word ^ (word >> 15)) * 0x046ca68bu) & kLow;
  return word ^ (word >> 16);
}

struct Visited {
  uint32_t count, order;
  int32_t item;

  bool operator<(const Visited& other) const {
    return count != other.count ? count > other.count : order < other.order;
  }
};

class Counter {
 public:
  explicit Counter(int64_t visits) {
    while ((int64_t{1} << bits_) < 2 * visits) ++bits_;
    slots_.assign(size_t{1} << bits_, {kNobody, 0});
  }

  void Add(int32_t item) {
    const uint32_t mask = static_cast<uint32_t>(slots_.size() - 1);
    uint32_t place = (static_cast<uint32_t>(item) * kGolden) >> (32 - bits_);
    while (slots_[place].item != item) {
      if (slots_[place].item == kNobody) {
        slots_[place].item = item;
        used_.push_back(place);
        break;
      }
      place = (place + 1) & mask;
    }
    ++slots_[place].count;
  }

  // Gives what may be among the `keep` visited most, unless fewer were visited, and forgets all.
  void Take(uint32_t salt, int64_t keep, std::vector<Visited>& found) {
    int64_t items_of_count[kHighest + 1] = {};
    for (const uint32_t place : used_) ++items_of_count[std::min(slots_[place].count, kHighest)];
    uint32_t least = kHighest;
    for (int64_t enough = items_of_count[least]; enough < keep && least > 1;) {
      enough += items_of_count[--least];
    }
    found.clear();
    for (const uint32_t place : used_) {
      const Slot slot = slots_[place];
      slots_[place] = {kNobody, 0};
      if (slot.count < least) continue;
      found.push_back({slot.count, Scrambled(static_cast<uint32_t>(slot.item), salt), slot.item});
    }
    used_.clear();
  }

 private:
  // Counts from here on are alike in the search for the lowest that is kept.
  static constexpr uint32_t kHighest = 63;

  struct Slot {
    int32_t item;
    uint32_t count;
  };
  int bits_ = 1;
  std::vector<Slot> slots_;
  std::vector<uint32_t> used_;
};

}  // namespace

// Of each of `rows` rows of `width` visits (negative: none) the `keep` items visited most, without
// the row's seed; of equally visited ones those of the lowest scrambled id. What is left of ids and
// counts, both rows x keep, is as it was.
extern "C" void most_visited(const int32_t* seeds, const int32_t* visits, const uint32_t* salts,
                             int64_t rows, int64_t width, int64_t keep, int32_t* ids,
                             int32_t* counts) {
  Counter counter(width);
  std::vector<Visited> found;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t place = row * width; place < (row + 1) * width; ++place) {
      if (visits[place] >= 0 && visits[place] != seeds[row]) counter.Add(visits[place]);
    }
    counter.Take(salts[row], keep, found);
    const int64_t kept = std::min<int64_t>(keep, found.size());
    std::partial_sort(found.begin(), found.begin() + kept, found.end());
    for (int64_t k = 0; k < kept; ++k) {
      ids[row * keep + k] = found[k].item;
      counts[row * keep + k] = static_cast<int32_t>(found[k].count);
    }
  }
}
