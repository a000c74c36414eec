// SmemTile: a kRows x kCols tile in shared memory (on the host: in a thread's scratch), laid out as the arch wants it.
#pragma once

#include "tile/arch_select.cuh"

namespace portattn {

template <class T, int Rows, int Cols>
struct SmemTile {
  using Source = T;                            // type in global memory
  using Element = typename Arch::SmemType<T>;  // type in the tile
  using Layout = typename Arch::SmemLayout<Element, Cols>;
  static constexpr int kRows = Rows;
  static constexpr int kCols = Cols;
  static constexpr int kBytes = Rows * Cols * static_cast<int>(sizeof(Element));

  Element* data;

  PA_DEVICE explicit SmemTile(char* smem) : data(reinterpret_cast<Element*>(smem)) {}
  PA_DEVICE Element& at(int row, int col) const { return data[Layout::offset(row, col)]; }
};

}  // namespace portattn
