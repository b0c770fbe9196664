// Two values side by side, usable wherever the cells' maths takes one: every operation is done on both, one after the
// other. A chain of operations of one value waits for itself; the second value fills those gaps. Not for floats of
// AVX-512, whose exp is not made of such operations (math.h).
#pragma once
#include "math.h"

namespace fusedrnn::cells {

template <class V>
struct Pair {
  V a, b;
};

template <class V>
struct Lane<Pair<V>> {
  using Elem = typename Lane<V>::Elem;
  using Int = Pair<typename Lane<V>::Int>;
};

// The other operand may be a pair, or one number for all lanes of both.
template <class T>
struct IsPair {
  static constexpr bool value = false;
};
template <class V>
struct IsPair<Pair<V>> {
  static constexpr bool value = true;
};

#define FUSEDRNN_PAIR_OPERATOR(op)                             \
  template <class V>                                           \
  FUSEDRNN_FN auto operator op(Pair<V> x, Pair<V> y) {         \
    return Pair<decltype(x.a op y.a)>{x.a op y.a, x.b op y.b}; \
  }                                                            \
  template <class V, class E>                                  \
    requires(!IsPair<E>::value)                                \
  FUSEDRNN_FN auto operator op(Pair<V> x, E y) {               \
    return Pair<decltype(x.a op y)>{x.a op y, x.b op y};       \
  }                                                            \
  template <class V, class E>                                  \
    requires(!IsPair<E>::value)                                \
  FUSEDRNN_FN auto operator op(E x, Pair<V> y) {               \
    return Pair<decltype(x op y.a)>{x op y.a, x op y.b};       \
  }
FUSEDRNN_PAIR_OPERATOR(+)
FUSEDRNN_PAIR_OPERATOR(-)
FUSEDRNN_PAIR_OPERATOR(*)
FUSEDRNN_PAIR_OPERATOR(/)
FUSEDRNN_PAIR_OPERATOR(&)
FUSEDRNN_PAIR_OPERATOR(|)
FUSEDRNN_PAIR_OPERATOR(<<)
FUSEDRNN_PAIR_OPERATOR(<)
FUSEDRNN_PAIR_OPERATOR(<=)
#undef FUSEDRNN_PAIR_OPERATOR

template <class V>
struct Bits<Pair<V>> {
  using Int = typename Lane<V>::Int;
  FUSEDRNN_FN static Pair<Int> of(Pair<V> x) { return {Bits<V>::of(x.a), Bits<V>::of(x.b)}; }
  FUSEDRNN_FN static Pair<V> value(Pair<Int> x) { return {Bits<V>::value(x.a), Bits<V>::value(x.b)}; }
};

template <class M, class V>
FUSEDRNN_FN Pair<V> select(Pair<M> mask, Pair<V> x, Pair<V> y) {
  return {select(mask.a, x.a, y.a), select(mask.b, x.b, y.b)};
}
template <class V>
FUSEDRNN_FN Pair<V> at_least(Pair<V> x, Pair<V> bound) {
  return {at_least(x.a, bound.a), at_least(x.b, bound.b)};
}
template <class V>
FUSEDRNN_FN Pair<V> at_most(Pair<V> x, Pair<V> bound) {
  return {at_most(x.a, bound.a), at_most(x.b, bound.b)};
}
template <class V>
FUSEDRNN_FN Pair<V> where_negative(Pair<V> x, Pair<V> y, Pair<V> z) {
  return {where_negative(x.a, y.a, z.a), where_negative(x.b, y.b, z.b)};
}
template <class V>
FUSEDRNN_FN Pair<V> scale_up(Pair<V> q, Pair<V> t) {
  return {scale_up(q.a, t.a), scale_up(q.b, t.b)};
}

}  // namespace fusedrnn::cells
