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
    items_.assign(size_t{1} << bits_, kNobody);
    counts_.resize(items_.size());
  }

  void Add(int32_t item) {
    const size_t mask = items_.size() - 1;
    size_t slot = (static_cast<uint32_t>(item) * kGolden) >> (32 - bits_);
    while (items_[slot] != item) {
      if (items_[slot] == kNobody) {
        items_[slot] = item;
        counts_[slot] = 0;
        used_.push_back(slot);
        break;
      }
      slot = (slot + 1) & mask;
    }
    ++counts_[slot];
  }

  // Gives all that was counted, and forgets it.
  void Take(uint32_t salt, std::vector<Visited>& found) {
    found.clear();
    for (const size_t slot : used_) {
      const int32_t item = items_[slot];
      found.push_back({counts_[slot], Scrambled(static_cast<uint32_t>(item), salt), item});
      items_[slot] = kNobody;
    }
    used_.clear();
  }

 private:
  int bits_ = 1;
  std::vector<int32_t> items_;
  std::vector<uint32_t> counts_;
  std::vector<size_t> used_;
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
    counter.Take(salts[row], found);
    const int64_t kept = std::min<int64_t>(keep, found.size());
    std::partial_sort(found.begin(), found.begin() + kept, found.end());
    for (int64_t k = 0; k < kept; ++k) {
      ids[row * keep + k] = found[k].item;
      counts[row * keep + k] = static_cast<int32_t>(found[k].count);
    }
  }
}
